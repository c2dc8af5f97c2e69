"""YAML with line numbers, and validation errors that say file, line, field, what is wrong and what to write instead.

Plain scalars mean what YAML 1.2's core schema says: `off`, `on`, `yes`, `1:30` and `2024-01-01` are text, whatever
YAML 1.1 made of them. What a configuration file has no use for is refused: aliases, tags, several documents, duplicate
fields. Everything is bounded. Whatever the text, the only exception is FileProblem.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

BYTES_MAX = 256 * 1024
DEPTH_MAX = 32
SHOWN_MAX = 60
"""Characters of a wrong value that a message repeats."""

MESSAGE_MAX = 500
"""Characters of a message that a validator wrote, and that may repeat the whole value."""
LIKENESS_MIN = 0.7
"""difflib's ratio from which a word is taken for another, mistyped."""

Place = tuple[str | int, ...]
"""The way from the top of a document to a part of it: `("ladder", 0, "restart")`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file. `line` counts from 1; 0 when it has no line (the environment, a whole file)."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"


class FileProblem(Exception):
    """A file that cannot be used, with everything that is wrong in it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Lines:
    """Where the parts of a document begin. A part of a mapping begins at its key."""

    starts: Mapping[Place, int] = field(default_factory=dict)

    def at(self, place: Place) -> int:
        """The line of this part, or of the nearest part round it that is in the document; 0 if there is none."""
        parts = (place[:length] for length in range(len(place), -1, -1))
        return next((self.starts[part] for part in parts if part in self.starts), 0)


def read_text(path: Path) -> str:
    """The text of a file. Raises FileProblem when it is missing, unreadable, too large or not UTF-8."""
    try:
        with path.open("rb") as opened:
            return opened.read(BYTES_MAX + 1).decode("utf-8")
    except OSError as error:
        raise FileProblem([Problem(str(path), 0, "", f"cannot be read: {error.strerror or error}")]) from error
    except UnicodeDecodeError as error:
        raise FileProblem([Problem(str(path), 0, "", f"is not UTF-8 text: {error.reason} at byte {error.start}")]) from error


def load_yaml(text: str, file: str) -> tuple[Any, Lines]:
    """The value of a document (None if it is empty) and the lines of its parts. Raises FileProblem."""
    if len(text.encode(errors="surrogatepass")) > BYTES_MAX:
        raise FileProblem([Problem(file, 0, "", f"is larger than {BYTES_MAX // 1024} KiB")])
    root = _compose(text, file)
    reading = _Reading(file)
    value = reading.value(root, ()) if root is not None else None
    if reading.problems:
        raise FileProblem(reading.problems)
    return value, Lines(reading.starts)


# --- From text to nodes -----------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2's core schema, without aliases, and with a bound on nesting."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's name and type
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise self.refusal("aliases are refused; put text that begins with * in quotes")
        if self.depth == DEPTH_MAX:
            raise self.refusal(f"it is nested deeper than {DEPTH_MAX} levels")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def refusal(self, why: str) -> yaml.MarkedYAMLError:
        """An error at what would be read next."""
        return yaml.MarkedYAMLError(problem=why, problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_pattern})$"), _first)


_HINTS = {
    "mapping values are not allowed here": "; a ':' is missing before this line, or text that holds ': ' lacks its quotes",
    "found character '\\t' that cannot start any token": "; indent with spaces",
}
"""What usually is behind PyYAML's words."""


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = Problem(file, line, "", f"the character U+{ord(text[error.position]):04X} is not allowed in YAML")
        raise FileProblem([problem]) from error
    try:
        node = loader.get_node() if loader.check_node() else None
        if loader.check_node():
            raise loader.refusal("a second document begins; a file holds one")
        return node
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else loader.line + 1
        what = ", ".join(part for part in (error.context, error.problem) if part) + _HINTS.get(error.problem or "", "")
        raise FileProblem([Problem(file, line, "", f"cannot be read as YAML: {what}")]) from error
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" that names no character
        raise FileProblem([Problem(file, loader.line + 1, "", f"cannot be read as YAML: {error}")]) from error
    finally:
        loader.dispose()


# --- From nodes to values ---------------------------------------------------------------------------------------------


class _Reading:
    """One walk over the nodes of a document: values out, lines and problems kept."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.starts: dict[Place, int] = {}
        self.problems: list[Problem] = []

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.starts.setdefault(place, _line(node))
        match node.tag.removeprefix(_TAG), node:
            case "map", yaml.MappingNode():
                return self._mapping(node, place)
            case "seq", yaml.SequenceNode():
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            case (("str" | "int" | "float" | "bool" | "null"), yaml.ScalarNode()):
                return self._scalar(node, place)
            case _:
                return self._problem(node, place, f"the tag {node.tag!r} is refused; leave it out")

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, place, "the name of a field must be text")
                continue
            inside = (*place, str(key.value))
            if key.value in values:
                self._problem(key, inside, f"is given twice; it is on line {self.starts[inside]} already")
                continue
            self.starts[inside] = _line(key)
            values[key.value] = self.value(item, inside)
        return values

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text = node.value
        try:
            match node.tag.removeprefix(_TAG):
                case "int":
                    return int(text)
                case "float":
                    return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "null":
                    return None
                case _:
                    return text
        except (ValueError, KeyError):
            return self._problem(node, place, f"{shown(text)} is not a number or a truth value that can be used here")

    def _problem(self, node: yaml.Node, place: Place, message: str) -> None:
        self.problems.append(Problem(self.file, _line(node), dotted(place), message))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


# --- From validation errors to problems -------------------------------------------------------------------------------


def problems_of(error: ValidationError, file: str, lines: Lines, model: type[BaseModel]) -> list[Problem]:
    """Every error of a validation by `model` in plain words, with its line, in the order of the file."""
    found = [
        Problem(file, lines.at(one["loc"]), dotted(_without_key_mark(one["loc"])), _in_words(one, model))
        for one in error.errors(include_url=False)
        if not _follows(one)
    ]
    return sorted(found, key=lambda problem: problem.line)


def _without_key_mark(place: Place) -> Place:
    """pydantic ends the place of a key that is wrong itself with `[key]`."""
    return place[:-1] if place[-1:] == ("[key]",) else place


def _follows(error: ErrorDetails) -> bool:
    """pydantic calls a list too short, too, when its items are merely wrong, and reports those by themselves."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def dotted(place: Place) -> str:
    """A place as people write it: `ladder[0].restart.timeout`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def shown(value: Any) -> str:
    """A value from a file as a message repeats it, cut short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > SHOWN_MAX:
            return repr(value[:SHOWN_MAX] + "…")
        case str():
            return repr(value)
        case _:
            return str(value)[:SHOWN_MAX]


def instead(word: str, allowed: Iterable[str]) -> str:
    """What to write instead of `word`: the nearest of the allowed words, or all of them."""
    words = sorted(allowed)
    folded = {known.lower(): known for known in words}
    if near := get_close_matches(word[:SHOWN_MAX].lower(), folded, n=1, cutoff=LIKENESS_MIN):
        return f"did you mean {folded[near[0]]!r}?"
    return f"write one of: {', '.join(words)}" if words else "none is allowed here"


def fields_at(model: type[BaseModel], place: Place) -> Mapping[str, FieldInfo]:
    """The fields of the mapping at `place` of a document that `model` describes, under the names that files use."""
    annotation: Any = model
    for part in place:
        known = _fields(annotation).get(str(part))
        annotation = known.annotation if known else _item(annotation)
    return _fields(annotation)


def _fields(annotation: Any) -> Mapping[str, FieldInfo]:
    model = bare(annotation)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return {}
    return {known.alias or name: known for name, known in model.model_fields.items()}


def _item(annotation: Any) -> Any:
    """What a list or a mapping holds: `V` of `tuple[V, ...]`, of `list[V]` and of `Mapping[str, V]`."""
    arguments = [argument for argument in get_args(bare(annotation)) if argument is not Ellipsis]
    return arguments[-1] if arguments else None


def bare(annotation: Any) -> Any:
    """The annotation without `Annotated` and `| None`."""
    while (origin := get_origin(annotation)) in (Annotated, Union, UnionType):
        members = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
        annotation = next((member for member in members if member is not NoneType), None)
    return annotation


_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_MUST_BE = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "frozen": "a list",
    "set": "a list",
    "dict": "a mapping (name: value)",
    "mapping": "a mapping (name: value)",
    "model": "a mapping (name: value)",
}
"""By the first word of pydantic's error types: https://docs.pydantic.dev/latest/errors/validation_errors/"""


def _in_words(error: ErrorDetails, model: type[BaseModel]) -> str:
    place, value, context = error["loc"], error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown field {shown(place[-1])}; {_field_instead(str(place[-1]), fields_at(model, place[:-1]))}"
        case "missing":
            return f"is missing; write {_example(str(place[-1]), fields_at(model, place[:-1]))}"
        case "enum" | "literal_error":
            allowed = re.findall(r"'([^']*)'", context["expected"])
            return f"{shown(value)} is not one of its values; {instead(str(value), allowed)}"
        case "value_error":
            return str(context["error"])[:MESSAGE_MAX]
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            [(kind, limit)] = context.items()
            return f"must be {_BOUNDS[kind]} {f'{limit:g}' if isinstance(limit, int | float) else limit}"
        case "too_short" | "string_too_short":
            return "must not be empty" if context["min_length"] == 1 else f"must have at least {context['min_length']}"
        case "too_long" | "string_too_long":
            return (
                f"must have at most {context['max_length']} {'characters' if error['type'].startswith('string') else 'items'}"
            )
        case kind if (expected := _MUST_BE.get(kind.split("_")[0])) and not kind.startswith("string_pattern"):
            quotes = "; put it in quotes" if expected == "text" and isinstance(value, int | float) else ""
            return f"must be {expected}, not {shown(value)}{quotes}"
        case _:
            return error["msg"][:1].lower() + error["msg"][1:]


def _field_instead(name: str, known: Mapping[str, FieldInfo]) -> str:
    """A right name in the wrong place is more likely than a wrong name: `cooldown` beside `limits`."""
    homes = [home for home, one in known.items() if name in _fields(one.annotation) or name in _fields(_item(one.annotation))]
    return f"it belongs inside {' or '.join(homes)}" if homes else instead(name, known)


def _example(name: str, known: Mapping[str, FieldInfo]) -> str:
    examples = known[name].examples if name in known else None
    return f"for instance {name}: {examples[0]}" if examples else f"{name}: …"
