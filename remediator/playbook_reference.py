"""Renders `docs/playbook-reference.md` from the models that read the files: what it says is what is accepted.

python -m remediator.playbook_reference > docs/playbook-reference.md
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from remediator.core.matching import Matcher
from remediator.core.playbook import Condition, RateLimit, brief
from remediator.core.step_parts import Risk
from remediator.extensions.installed import installed
from remediator.playbook_files import facts_of
from remediator.playbook_model import (
    BreakerPart,
    DiagnoseItem,
    LadderItem,
    LimitsPart,
    PlaybookFile,
    Rung,
    Target,
    VerifyItem,
    VerifyPart,
    in_notation,
)
from remediator.playbook_steps import LONGEST, Bounds, Item, Parameters
from remediator.yaml_lines import bare

INTRODUCTION = """\
# Playbook reference

<!-- Generated: python -m remediator.playbook_reference > docs/playbook-reference.md -->

A playbook is one YAML file, `playbooks/<name>.yaml`. What it does not know is an error: `remediator check` names the file,
the line and the field, and says what to write instead. `remediator schema` prints a JSON Schema for editors.

**Notation.** Durations are Prometheus's: `30s`, `10m`, `1h30m`, `7d`. Rates are `3 per 1h`, exact in every window of that
length. Matchers are Alertmanager's, one in a text: `'alertname = RedisDown'`, `'severity =~ "critical|page"'`. A condition
compares one fact of the diagnosis with a number: `'redis.info.memory_ratio > 0.95'`. Only `true` and `false` are truth
values; `off` and `yes` are text.

**Labels.** Where a table says *labels*, `$labels.x` stands for the label `x` of the alert. In a name its value must be a name,
in that of a table or an index an identifier of SQL; in PromQL it stands inside a double-quoted value,
`service="$labels.service"`, and is quoted for it. A label that is missing or empty refuses the step. No other field takes
labels.

**Items.** An item of `ladder`, `diagnose`, `all` and `any` is a mapping from one name below to its parameters. Without
parameters the name alone will do: `- stats`. A parameter marked *alone* needs no name of its own: `- exec: [df, -h]`.
"""

RISKS: Mapping[Risk, str] = {
    Risk.READ: "reads only",
    Risk.LOW: "low (users notice nothing)",
    Risk.DISRUPTIVE: "disruptive (users may notice)",
    Risk.DESTRUCTIVE: "destructive (data is lost; needs `approval: required`)",
}


def render() -> str:
    """The page, in Markdown."""
    return "\n".join([INTRODUCTION, *_fields_of_the_file(), *_items_of_the_lists()])


def _fields_of_the_file() -> Iterator[str]:
    yield _section(PlaybookFile, "The file", PlaybookFile.model_fields)
    yield _section(Target, "`target`", Target.model_fields)
    yield _section(LimitsPart, "`limits`", LimitsPart.model_fields)
    yield _section(BreakerPart, "`limits.breaker`", BreakerPart.model_fields)
    yield _section(VerifyPart, "`verify`", VerifyPart.model_fields)
    yield _section(Rung, "`ladder`, beside the step", Rung.model_fields)


def _items_of_the_lists() -> Iterator[str]:
    lists: Iterable[tuple[str, type[Item]]] = (
        ("Steps of `ladder`", LadderItem),
        ("Items of `diagnose`", DiagnoseItem),
        ("Checks of `verify`", VerifyItem),
    )
    for title, item in lists:
        yield f"## {title}\n"
        yield from (_item(name, model) for name, model in item.kinds.items())


def _section(model: type[BaseModel], title: str, fields: Mapping[str, FieldInfo]) -> str:
    return f"## {title}\n\n{model.__doc__}\n\n{_table(fields)}\n"


def _item(name: str, model: type[Parameters]) -> str:
    risk = RISKS[model.kind.risk]
    parameters = f"\n{_table(model.model_fields, model.positional)}\n" if model.model_fields else ""
    facts = ", ".join(f"`{fact}`" for fact in facts_of(model.kind))
    found = f" Facts for `when`: {facts}." if facts else ""
    origin = installed().origin_of(model.kind)
    added = f" Added by {origin}." if origin else ""
    return f"### `{name}`\n\n{model.__doc__} Risk: {risk}.{found}{added}\n{parameters}"


def _table(fields: Mapping[str, FieldInfo], positional: str = "") -> str:
    rows = ["| field | value | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        alone = "; alone" if name == positional else ""
        rows.append(f"| `{name}` | {_value(field)}{alone} | {_default(field)} | {field.description} |")
    return "\n".join(rows)


def _value(field: FieldInfo) -> str:
    return ", ".join([_kind(field.annotation), *_notes(field.annotation, field.metadata)])


LABELLED = ("name_template", "relation_template", "promql_template")
"""What validates the fields that take labels."""

_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    timedelta: "duration",
    RateLimit: "rate",
    Matcher: "matcher",
    Condition: "condition",
}


def _kind(annotation: Any) -> str:
    annotation = bare(annotation)
    if annotation in _KINDS:
        return _KINDS[annotation]
    if get_origin(annotation) is tuple:
        return f"list of {_plural(_kind(get_args(annotation)[0]))}"
    if get_origin(annotation) is Literal:
        return " ".join(f"`{word}`" for word in get_args(annotation))
    if issubclass(annotation, Enum):
        return ", ".join(f"`{word.value}`" for word in annotation)
    return "item" if issubclass(annotation, Item) else "mapping, below"


def _plural(kind: str) -> str:
    return kind if kind == "text" else f"{kind}s"


def _notes(annotation: Any, metadata: Iterable[Any]) -> Iterator[str]:
    """Bounds, and whether labels are taken, from what validates the field."""
    for rule in metadata:
        match rule:
            case Ge(ge=least):
                yield f"at least {least}"
            case Le(le=most):
                yield f"at most {most}"
            case AfterValidator(func=Bounds(least, most)):
                yield from [f"at least {brief(least)}"] if least else []
                yield from [f"at most {brief(most)}"] if most < LONGEST else []
            case AfterValidator(func=check) if getattr(check, "__name__", "") in LABELLED:
                yield "labels"
    if get_origin(annotation) is Annotated:
        inner, *rules = get_args(annotation)
        yield from _notes(inner, rules)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = in_notation(field.default) if field.default_factory is None else None
    match value:
        case None | "" | []:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case list():
            return f"`[{', '.join(value)}]`"
        case Enum():
            return f"`{value.value}`"
        case _:
            return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(render())
