"""requirements/: everything is pinned and hashed, nothing says where it was downloaded, and nothing is missing."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, str]:
    """Package -> version of each pin of a lock file."""
    text = (ROOT / f"requirements/{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[><=~ ]", each)[0].lower().replace("_", "-") for each in requirements}


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_a_lock_holds_pins_with_hashes_and_nothing_else(name):
    lines = (ROOT / f"requirements/{name}.txt").read_text().splitlines()
    pin = re.compile(r"[a-z0-9-]+==[^ ]+( ; [^\\]+)? \\")
    hashed = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not (line.startswith("#") or pin.fullmatch(line) or hashed.fullmatch(line))] == []


def test_what_the_project_asks_for_is_locked():
    assert names(PROJECT["project"]["dependencies"]) <= locked("run").keys()
    assert names(PROJECT["dependency-groups"]["dev"]) <= locked("dev").keys()
    for requirement in PROJECT["build-system"]["requires"]:
        assert requirement in (ROOT / "requirements/build.in").read_text().splitlines()


def test_tests_run_on_what_is_shipped():
    run, dev = locked("run"), locked("dev")
    assert {name: dev.get(name) for name in run} == run
