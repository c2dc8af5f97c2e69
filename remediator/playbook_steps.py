"""The items of a playbook's lists (steps, diagnoses, checks) as pydantic models, derived from `core/step.py`.

A parameter that is added to a dataclass there is thereby accepted, checked, part of the JSON Schema and documented.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from dataclasses import Field as Parameter
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Self, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from remediator.core.playbook import brief
from remediator.core.template import NAME, PLACEHOLDER, RELATION
from remediator.durations import Duration
from remediator.yaml_lines import shown

LONGEST = timedelta(days=366)
"""No parameter is longer, so that adding one to a point in time never overflows."""

# --- Texts that may take labels, and texts that may not ---------------------------------------------------------------


def no_label(text: str) -> str:
    if "$label" in text:
        raise ValueError("takes no $labels: what an alert says never gets here; write the text itself")
    return text


def name_template(text: str) -> str:
    """A name, `$labels.x`, or a mixture: the rule of `core.template.bind_name`, as far as a file alone can break it."""
    if not NAME.fullmatch(PLACEHOLDER.sub("x", text)):
        raise ValueError(f"{shown(text)} is not a name; write one as shop-api or $labels.service")
    return text


def relation_template(text: str) -> str:
    """The rule of `core.template.bind_relation`, in the same way."""
    if not RELATION.fullmatch(PLACEHOLDER.sub("x", text)):
        raise ValueError(f"{shown(text)} is not a table or an index; write one as orders, shop.orders or $labels.relname")
    return text


_PROMQL_TOKEN = re.compile(r"""(?:[=!]~\s*)?"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`|\#[^\n]*""")


def promql_template(text: str) -> str:
    """Labels are quoted for a double-quoted PromQL string. Anywhere else, and in a pattern, their value would be code."""
    outside = _PROMQL_TOKEN.sub(lambda found: "" if found[0].startswith('"') else found[0], text)
    if "$label" in outside or "$label" in PLACEHOLDER.sub("", text):
        raise ValueError('takes $labels.x only inside a double-quoted value that is no pattern: service="$labels.service"')
    return text


_TEMPLATES = {"": no_label, "name": name_template, "relation": relation_template, "promql": promql_template}
"""By `metadata["labels"]` of a parameter."""

# --- The two shapes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a duration may be, as an `AfterValidator`: pydantic's own `ge` and `le` would speak of `datetime.timedelta`."""

    least: timedelta = timedelta()
    most: timedelta = LONGEST

    def __call__(self, value: timedelta) -> timedelta:
        if value < self.least:
            raise ValueError(f"must be at least {brief(self.least)}")
        if value > self.most:
            raise ValueError(f"must be at most {brief(self.most)}")
        return value


Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Part(BaseModel):
    """A mapping of a playbook file: a field that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Parameters(Part):
    """The parameters of one step. The one that is `positional` may stand alone: `exec: [df, -h]`."""

    kind: ClassVar[Any]
    positional: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, given: Any) -> Any:
        if given is None:
            return {}
        return {cls.positional: given} if cls.positional and not isinstance(given, dict) else given

    def made(self) -> Any:
        """The step itself."""
        return self.kind(**{name: getattr(self, name) for name in type(self).model_fields})

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        return either(schema, schema["properties"][cls.positional] if cls.positional else {"type": "null"})


class Item(Part):
    """A mapping with one step under the step's name. A step that needs no parameters may stand as bare text: `stats`."""

    kinds: ClassVar[Mapping[str, type[Parameters]]]
    noun: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _from_bare_text(cls, given: Any) -> Any:
        return {given: None} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _has_exactly_one(self) -> Self:
        if len(chosen := self._chosen()) != 1:
            what = f"has {len(chosen)} ({', '.join(chosen)})" if chosen else "has none"
            raise ValueError(f"must have exactly one {self.noun} and {what}; {self.noun}s are: {', '.join(self.kinds)}")
        return self

    def _chosen(self) -> list[str]:
        return [name for name in self.kinds if _identifier(name) in self.model_fields_set]

    def made(self) -> Any:
        """The step that the item names."""
        return getattr(self, _identifier(self._chosen()[0])).made()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core_schema))
        schema["oneOf"] = [{"required": [name]} for name in cls.kinds]
        return either(schema, {"enum": [name for name, model in cls.kinds.items() if not required(model)]})


def required(model: type[BaseModel]) -> list[str]:
    """The names of the fields that must be given."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


def either(schema: JsonSchemaValue, short_form: JsonSchemaValue) -> JsonSchemaValue:
    """Rewrites a definition in place (others refer to it) to allow the short form too."""
    long_form = dict(schema)
    schema.clear()
    schema.update({"description": long_form.pop("description"), "anyOf": [long_form, short_form]})
    return schema


# --- Derivation -------------------------------------------------------------------------------------------------------


def item_model(name: str, base: type[Item], noun: str, kinds: Iterable[Any]) -> type[Item]:
    """The model of a list's items: `base` and one field for each of `kinds`, under its name in YAML."""
    models = {kind.name: _parameters_model(kind) for kind in kinds}
    derived: dict[str, Any] = {_identifier(n): (m, Field(None, alias=n, description=m.__doc__)) for n, m in models.items()}
    model = create_model(name, __base__=base, __doc__=base.__doc__, **derived)
    model.kinds, model.noun = models, noun
    return model


def _identifier(name: str) -> str:
    return name.replace(".", "_")


@cache
def _parameters_model(kind: Any) -> type[Parameters]:
    hints = get_type_hints(kind)
    public = [parameter for parameter in fields(kind) if not parameter.metadata.get("hidden")]
    derived: dict[str, Any] = {parameter.name: _parameter(parameter, hints[parameter.name]) for parameter in public}
    doc = " ".join(kind.__doc__.split())  # in one line, as the schema and a heading's text want it
    model = create_model(kind.__name__, __base__=Parameters, __doc__=doc, **derived)
    model.kind = kind
    model.positional = next((parameter.name for parameter in public if parameter.metadata.get("positional")), "")
    return model


def _parameter(parameter: Parameter[Any], hint: Any) -> tuple[Any, Any]:
    """A parameter as pydantic wants it: its type within the bounds of its metadata, and its default and description."""
    least, most = parameter.metadata.get("at_least"), parameter.metadata.get("at_most")
    default = ... if parameter.default is MISSING else parameter.default
    return _bounded(parameter, hint, least, most), Field(default, description=parameter.metadata["doc"])


def _bounded(parameter: Parameter[Any], hint: Any, least: Any, most: Any) -> Any:
    template = AfterValidator(_TEMPLATES[parameter.metadata.get("labels", "")])
    if hint is timedelta:
        return Annotated[Duration, AfterValidator(Bounds(least or timedelta(), most or LONGEST))]
    if hint is str:
        return Annotated[Text, template]
    if hint == tuple[str, ...]:
        return Annotated[tuple[Annotated[Text, template], ...], Field(min_length=1, max_length=100)]
    if hint is bool:
        return Annotated[bool, Field(strict=True)]
    return Annotated[hint, Field(strict=True, ge=least, le=most)]
