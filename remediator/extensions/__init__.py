"""What other packages add: a platform or data service, and the steps, diagnoses and checks that it carries out.

A package names an `Extension` in the entry-point group `remediator.extensions`. It is written against this module, `ports.py`
and `core/`, and against nothing else of remediator. docs/extensions.md has a whole example.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from remediator.ports import Actuator, Platform

GROUP = "remediator.extensions"

Options = Mapping[str, Any]
"""What the configuration file says under `extensions.<name>`."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A platform or data service. `name` is what its workloads call their `platform`, and its steps their `service`.

    Kinds of steps, diagnoses and checks are frozen dataclasses like those of `core/step.py`, each called `<name>.<word>`. An
    extension without any is a platform for the steps that there are: `restart` of its own workloads, for instance.
    Both sides are opened at the start, and only where `extensions.<name>` stands in the configuration file. Whatever is
    wrong with the options is a ValueError that says what to write instead.
    """

    name: str
    reading: Callable[[Options], AbstractAsyncContextManager[Platform]]
    writing: Callable[[Options], AbstractAsyncContextManager[Actuator]] | None = None
    """Not even opened in mode `suggest`."""
    steps: tuple[type[Any], ...] = ()
    diagnoses: tuple[type[Any], ...] = ()
    checks: tuple[type[Any], ...] = ()
