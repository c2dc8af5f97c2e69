"""What every kind of step is made of: its risk, and parameters that many of them have."""

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from typing import Any


class Risk(StrEnum):
    """How much a step can hurt. Destructive never rises above mode `approve`; read steps are taken in every mode."""

    READ = "read"
    LOW = "low"
    DISRUPTIVE = "disruptive"
    DESTRUCTIVE = "destructive"


def name_field(doc: str) -> Any:
    """A parameter that names a configured thing; defaults to the target's own service."""
    return field(default="", metadata={"labels": "name", "doc": doc})


def relation_field(doc: str) -> Any:
    """A parameter that names a table or an index of PostgreSQL, with its schema or without."""
    return field(metadata={"labels": "relation", "doc": doc, "positional": True})


def long_work(doc: str) -> Mapping[str, Any]:
    """The metadata of how long a step may take that is long at work."""
    return {"doc": doc, "at_least": timedelta(seconds=1), "at_most": timedelta(hours=6)}
