"""`$labels.name` in playbooks. Labels are data: they fill typed parameters, and never reach a shell or a template language."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

PLACEHOLDER = re.compile(r"\$labels\.([a-zA-Z_][a-zA-Z0-9_]*)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
"""What a label must match in full to name a workload, a database or a cache (the common part of Docker's and DNS's rules)."""

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"
RELATION = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?")
"""A table or an index, with its schema or without: what PostgreSQL takes unquoted, of at most 63 bytes. It is quoted all
the same, which keeps its case."""


@dataclass(frozen=True, slots=True)
class Unbound:
    """A placeholder that could not be filled: an empty, missing or malformed label never widens a selection."""

    label: str
    why: str


def labels_in(text: str) -> tuple[str, ...]:
    """The names of the labels that `text` refers to, in order of appearance."""
    return tuple(PLACEHOLDER.findall(text))


def bind_name(text: str, labels: Mapping[str, str]) -> str | Unbound:
    """Fill the placeholders of a name: each label's value must match NAME in full."""
    return _bind(text, labels, lambda value: value if NAME.fullmatch(value) else None)


def bind_relation(text: str, labels: Mapping[str, str]) -> str | Unbound:
    """Fill the placeholders of a relation's name: each label's value must match RELATION, and so must the whole."""
    filled = _bind(text, labels, lambda value: value if RELATION.fullmatch(value) else None)
    if isinstance(filled, Unbound) or RELATION.fullmatch(filled):
        return filled
    return Unbound(", ".join(labels_in(text)), f"{filled[:80]!r} is not the name of a table or an index")


def bind_promql(text: str, labels: Mapping[str, str]) -> str | Unbound:
    """Fill the placeholders of a PromQL query, quoted for a double-quoted PromQL string."""
    return _bind(text, labels, promql_quoted)


def promql_quoted(value: str) -> str:
    """`value` as it stands between double quotes in PromQL.

    The escapes are those of Go string literals, which PromQL uses (Prometheus documentation, "String literals").
    """
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _bind(text: str, labels: Mapping[str, str], fit: Callable[[str], str | None]) -> str | Unbound:
    filled = []
    position = 0
    for found in PLACEHOLDER.finditer(text):
        label = found[1]
        value = labels.get(label, "")
        if not value:
            return Unbound(label, f"the alert has no label {label!r}")
        fitted = fit(value)
        if fitted is None:
            return Unbound(label, f"label {label!r} is {value[:80]!r}, which is not a valid name")
        filled += [text[position : found.start()], fitted]
        position = found.end()
    return "".join([*filled, text[position:]])
