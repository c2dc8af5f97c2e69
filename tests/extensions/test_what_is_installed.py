"""What entry points lead to, and every way in which that can be wrong: the package, the entry point, and what to do."""

from pathlib import Path

import pytest

from remediator.extensions.installed import found
from tests.extensions.packages import entry_points_in, put_package

SOUND = '''
from dataclasses import dataclass, field
from typing import ClassVar
from remediator.core.step_parts import Risk
from remediator.extensions import Extension

@dataclass(frozen=True)
class Open:
    """Open it."""
    name: ClassVar[str] = "gate.open"
    service: ClassVar[str] = "gate"
    risk: ClassVar[Risk] = Risk.LOW
    width: int = field(default=1, metadata={"doc": "How wide."})

@dataclass(frozen=True)
class Look:
    """Look at it."""
    name: ClassVar[str] = "gate.look"
    service: ClassVar[str] = "gate"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("gate.look.width",)

EXTENSION = Extension("gate", reading=print, writing=print, steps=(Open,), diagnoses=(Look,), checks=(Look,))
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_an_extension_is_found_with_its_package(site):
    put_package(site, "a-gate", SOUND, version="2.5")
    installed = found(entry_points_in(site))
    (added,) = installed.added
    assert not installed.problems
    assert (added.name, added.package, [kind.name for kind in added.kinds]) == (
        "gate",
        "a-gate 2.5",
        ["gate.open", "gate.look", "gate.look"],
    )
    assert installed.origin_of(added.kinds[0]) == "a-gate 2.5"
    assert installed.origin_of(str) == ""


def test_one_that_is_broken_leaves_the_others_usable_and_is_told_of(site):
    put_package(site, "b-gate", SOUND)
    put_package(site, "c-gate", "import nothing_of_this_name")
    installed = found(entry_points_in(site))
    assert [added.package for added in installed.added] == ["b-gate 1.0"]
    (problem,) = map(str, installed.problems)
    assert problem == (
        "package c-gate 1.0: entry point c_gate = c_gate:EXTENSION: cannot be loaded: ModuleNotFoundError: "
        "No module named 'nothing_of_this_name'; repair the package, or remove it: pip uninstall c-gate"
    )


def test_two_packages_cannot_bring_the_same_name(site):
    put_package(site, "d-gate", SOUND)
    put_package(site, "e-gate", SOUND)
    installed = found(entry_points_in(site))
    assert [added.package for added in installed.added] == ["d-gate 1.0"]
    (problem,) = map(str, installed.problems)
    assert problem.startswith("package e-gate 1.0: ")
    assert "'gate' is the name of an extension of d-gate 1.0 already" in problem


@pytest.mark.parametrize(
    ("written", "instead", "told"),
    [
        ('EXTENSION = Extension("gate"', 'EXTENSION = dict(name="gate"', "must lead to a remediator.extensions.Extension"),
        ('Extension("gate"', 'Extension("Big Gate"', "'Big Gate' is not a name of small letters"),
        ('Extension("gate"', 'Extension("redis"', "'redis' is one of remediator's own"),
        ('Extension("gate"', 'Extension("docker"', "'docker' is one of remediator's own"),
        ("writing=print, ", "", "has steps and nobody who takes them"),
        ("steps=(Open,)", "steps=(Open, Open)", "has two steps that are called 'gate.open'"),
        ('"gate.open"', '"restart"', "Open: `name` must be gate.<word>, such as gate.open"),
        ('"gate.open"', '"redis.flush"', "Open: `name` must be gate.<word>"),
        ('"gate.open"', '"gate.Open it"', "Open: `name` must be gate.<word>"),
        ("= Risk.LOW", "= Risk.LOW; service: ClassVar[str] = ''", "Open: `service` must be 'gate'"),
        ("Risk.LOW", "Risk.READ", "Open: `risk` must be Risk.LOW, Risk.DISRUPTIVE or Risk.DESTRUCTIVE"),
        ("Risk.LOW", "'low'", "Open: `risk` must be"),
        ("= Risk.READ", "= Risk.DESTRUCTIVE", "Look: `risk` must be Risk.READ"),
        ("@dataclass(frozen=True)\nclass Open", "@dataclass\nclass Open", "Open: must be a frozen dataclass"),
        ("@dataclass(frozen=True)\nclass Open", "class Open", "Open: must be a frozen dataclass"),
        ('    """Open it."""\n', "", "Open: has no docstring"),
        ('"gate.look.width"', '"redis.info.up"', "Look: the fact 'redis.info.up' must be called gate.look.<word>"),
        ("width: int", "width: dict", "Open: parameter width must be str, int, float, bool, timedelta or tuple[str, ...]"),
        ('metadata={"doc": "How wide."}', "metadata={}", 'Open: parameter width needs metadata={"doc": ...}'),
        ('"How wide."', '"How wide.", "labels": "shell"', "Open: parameter width: metadata[\"labels\"] must be"),
        ("default=1", "default_factory=int", "Open: parameter width must have a plain default"),
        ("from dataclasses", "raise SyntaxError('half')\nfrom dataclasses", "cannot be loaded: SyntaxError: half"),
        ("EXTENSION =", "OTHER =", "cannot be loaded: AttributeError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_to_write_instead(site, written, instead, told):
    assert written in SOUND
    name = site.name.replace("_", "-")  # a module of its own for each: Python remembers what it has imported
    put_package(site, name, SOUND.replace(written, instead))
    installed = found(entry_points_in(site))
    assert not installed.added
    assert any(told in str(problem) for problem in installed.problems), [str(problem) for problem in installed.problems]
    assert all(f"pip uninstall {name}" in str(problem) for problem in installed.problems)
