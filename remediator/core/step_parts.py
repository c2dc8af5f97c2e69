"""What every kind of step is made of: its risk, and parameters that many of them have."""

from dataclasses import field
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
