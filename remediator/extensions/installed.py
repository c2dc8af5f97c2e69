"""The extensions that are installed here, found by their entry points; and all kinds of steps, theirs and remediator's own.

What is wrong with one is kept, not raised: `playbook_files` refuses to load anything while there is a problem, so that
every command and the start say it, and nothing is half there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from remediator.core.step import CHECKS, DIAGNOSES, STEPS
from remediator.extensions import GROUP, Extension
from remediator.extensions.rules import wrong_with
from remediator.yaml_lines import Problem


@dataclass(frozen=True, slots=True)
class Added:
    """An extension, and the package that it came with: `shop-flags 0.3`."""

    extension: Extension
    package: str

    @property
    def name(self) -> str:
        return self.extension.name

    @property
    def kinds(self) -> tuple[type[Any], ...]:
        return (*self.extension.steps, *self.extension.diagnoses, *self.extension.checks)


@dataclass(frozen=True, slots=True)
class Installed:
    """Extensions that can be used, by name, and what is wrong with the others."""

    added: Sequence[Added]
    problems: Sequence[Problem]

    def origin_of(self, kind: Any) -> str:
        """The package that added this kind of step; empty if it is remediator's own."""
        return next((each.package for each in self.added if kind in each.kinds), "")


@cache
def installed() -> Installed:
    """What is installed in this environment: it does not change while a process runs."""
    return found(entry_points(group=GROUP))


def found(points: Iterable[EntryPoint]) -> Installed:
    """What these entry points lead to."""
    added: dict[str, Added] = {}
    problems: list[Problem] = []
    for point in sorted(points, key=lambda point: (_package(point), point.name)):
        try:
            wrong = list(_take(point, added))
        except Exception as error:  # noqa: BLE001 - whatever a package does when it is imported, and BaseException ends us
            wrong = [f"cannot be loaded: {type(error).__name__}: {error}"]
        problems += [_problem(point, message) for message in wrong]
    return Installed(tuple(added.values()), tuple(problems))


def _take(point: EntryPoint, added: dict[str, Added]) -> Iterator[str]:
    extension = point.load()
    wrong = list(wrong_with(extension))
    if not wrong and (first := added.get(extension.name)):
        wrong = [f"{extension.name!r} is the name of an extension of {first.package} already"]
    if not wrong:
        added[extension.name] = Added(extension, _package(point))
    yield from wrong


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "a package without a name"


def _problem(point: EntryPoint, message: str) -> Problem:
    way_out = f"; repair the package, or remove it: pip uninstall {point.dist.name}" if point.dist else ""
    return Problem(f"package {_package(point)}", 0, f"entry point {point.name} = {point.value}", message + way_out)


def steps() -> tuple[type[Any], ...]:
    """All kinds of steps."""
    return (*STEPS, *(kind for each in installed().added for kind in each.extension.steps))


def diagnoses() -> tuple[type[Any], ...]:
    """All kinds of diagnoses."""
    return (*DIAGNOSES, *(kind for each in installed().added for kind in each.extension.diagnoses))


def checks() -> tuple[type[Any], ...]:
    """All kinds of checks."""
    return (*CHECKS, *(kind for each in installed().added for kind in each.extension.checks))
