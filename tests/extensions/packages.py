"""Packages that bring extensions, installed for a test: the example, really built and installed, and broken ones."""

import subprocess
import sys
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

from remediator.extensions import GROUP

EXAMPLE = Path(__file__).parents[1] / "example_extension"


def install_example(into: Path) -> Path:
    """Build the example's wheel and install it into this directory, as pip does; nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(into)]
    subprocess.run([*pip, *offline, str(EXAMPLE)], check=True, timeout=100)
    return into


def put_package(into: Path, name: str, source: str, attribute: str = "EXTENSION", version: str = "1.0") -> Path:
    """A package of one module, with the metadata that an installer would write."""
    module = name.replace("-", "_")
    (into / f"{module}.py").write_text(source)
    info = into / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{module} = {module}:{attribute}\n")
    return into


def entry_points_in(directory: Path) -> list[EntryPoint]:
    return [point for one in distributions(path=[str(directory)]) for point in one.entry_points if point.group == GROUP]
