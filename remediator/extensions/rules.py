"""What must hold of an extension before anything of it is used. Every message says what to write instead."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any, get_type_hints

from remediator.core.step import CHECKS, DIAGNOSES, STEPS
from remediator.core.step_parts import Risk
from remediator.extensions import Extension

NAME = re.compile("[a-z][a-z0-9]*(_[a-z0-9]+)*")
TYPES = (str, int, float, bool, timedelta, tuple[str, ...])
BUILT_IN = frozenset({"docker", "command", "kubernetes", *(kind.service for kind in (*STEPS, *DIAGNOSES, *CHECKS))}) - {""}
"""Platforms and data services of remediator's own: what they are called is taken."""


def wrong_with(extension: Any) -> Iterator[str]:
    """All that is wrong with what an entry point leads to; nothing if it can be used."""
    if not isinstance(extension, Extension):
        yield f"must lead to a remediator.extensions.Extension, and leads to {type(extension).__name__}"
        return
    if not NAME.fullmatch(extension.name):
        yield f"{extension.name!r} is not a name of small letters, digits and _, such as load_balancer"
        return
    if extension.name in BUILT_IN:
        yield f"{extension.name!r} is one of remediator's own: {', '.join(sorted(BUILT_IN))}; choose another name"
        return
    if extension.steps and extension.writing is None:
        yield "has steps and nobody who takes them; give it a `writing` side"
    for noun in ("steps", "diagnoses", "checks"):
        kinds = getattr(extension, noun)
        names = [getattr(kind, "name", "") for kind in kinds]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"has two {noun} that are called {name!r}"
        for kind in kinds:
            yield from (f"{kind.__name__}: {wrong}" for wrong in _wrong_with_kind(kind, extension.name, reads=noun != "steps"))


def _wrong_with_kind(kind: Any, extension: str, *, reads: bool) -> Iterator[str]:
    if not getattr(kind, "__dataclass_params__", None) or not kind.__dataclass_params__.frozen:
        yield "must be a frozen dataclass"
        return
    prefix, _, word = str(getattr(kind, "name", "")).partition(".")
    if prefix != extension or not NAME.fullmatch(word):
        yield f"`name` must be {extension}.<word>, such as {extension}.{kind.__name__.lower()}, so that no name is taken twice"
    if getattr(kind, "service", None) != extension:
        yield f"`service` must be {extension!r}: who carries it out"
    if not isinstance(risk := getattr(kind, "risk", None), Risk) or (risk is Risk.READ) is not reads:
        yield f"`risk` must be {'Risk.READ' if reads else 'Risk.LOW, Risk.DISRUPTIVE or Risk.DESTRUCTIVE'}"
    if (kind.__doc__ or "").startswith(f"{kind.__name__}("):  # what dataclasses write themselves
        yield "has no docstring; say in a line what it does, for the reference"
    for fact in getattr(kind, "facts", ()):
        if not fact.startswith(f"{kind.name}."):
            yield f"the fact {fact!r} must be called {kind.name}.<word>"
    yield from _wrong_with_parameters(kind)


def _wrong_with_parameters(kind: Any) -> Iterator[str]:
    hints = get_type_hints(kind)
    for parameter in fields(kind):
        if hints[parameter.name] not in TYPES:
            yield f"parameter {parameter.name} must be str, int, float, bool, timedelta or tuple[str, ...]"
        if not parameter.metadata.get("doc"):
            yield f'parameter {parameter.name} needs metadata={{"doc": ...}} that says what it is for'
        if parameter.metadata.get("labels", "name") not in ("name", "promql"):
            yield f'parameter {parameter.name}: metadata["labels"] must be "name" or "promql"'
        if parameter.default_factory is not MISSING:
            yield f"parameter {parameter.name} must have a plain default, or none"
