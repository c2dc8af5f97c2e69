"""Who may know whom. The contracts are in `.importlinter`; here they are run, and what they cannot say is added."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = sorted((ROOT / "remediator" / "core").rglob("*.py"))
HEAVY = (
    "aiokafka",
    "docker",
    "kubernetes_asyncio",
    "sqlalchemy",
    "alembic",
    "aiohttp",
    "pydantic",
    "psycopg",
    "redis",
    "yaml",
    "structlog",
)


def test_imports_go_down_only_and_libraries_stay_where_they_belong():
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout[-3000:]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_imports_nothing_but_itself_and_the_standard_library(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert name.startswith("remediator.core") or name.partition(".")[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_never_awaits(path):
    awaits = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Await | ast.AsyncFunctionDef)]
    assert awaits == []


def imported(*command: str) -> set[str]:
    """The top-level modules that a command imports."""
    ran = subprocess.run([sys.executable, "-X", "importtime", *command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = (line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:"))
    return {name.partition(".")[0] for name in lines}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["explain", "--help"], ["runs", "list", "--help"]], ids=" ".join
)
def test_help_imports_none_of_the_heavy_libraries(arguments):
    assert imported("-m", "remediator", *arguments).isdisjoint(HEAVY)


def test_listening_costs_no_platform_that_is_not_configured_and_no_migration_library():
    assert imported("-c", "import remediator.app").isdisjoint(
        {"aiokafka", "docker", "kubernetes_asyncio", "sqlalchemy", "alembic", "psycopg", "redis"}
    )
