"""What the documentation shows is true: its examples are loaded by the code that it documents."""

import re
import shutil
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from remediator.cli.main import main, parser
from remediator.core.dependencies import CAUSES, RECOVERY
from remediator.core.playbook import brief
from remediator.maintenance_file import parse_windows
from remediator.playbook_files import parse_playbook
from remediator.services_file import parse_services
from remediator.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_first_playbook_of_the_readme_loads():
    text = next(block for block in blocks(README, "yaml") if block.startswith("name:"))
    assert parse_playbook(text, "worker-stuck.yaml").name == "worker-stuck"


def test_the_first_case_of_the_readme_passes_as_it_says(tmp_path, capsys, monkeypatch):
    playbook = next(block for block in blocks(README, "yaml") if block.startswith("name:"))
    cases = next(block for block in blocks(README, "yaml") if block.startswith("cases:"))
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "worker-stuck.yaml").write_text(playbook)
    (tmp_path / "playbooks" / "worker-stuck.cases.yaml").write_text(cases)
    monkeypatch.chdir(tmp_path)
    assert main(["test", "playbooks"]) == 0
    shown = next(block for block in blocks(README, "console") if block.startswith("$ remediator test"))
    assert capsys.readouterr().out.splitlines()[:-1] == shown.splitlines()[1:-1]


def test_the_alertmanager_configuration_of_the_readme_is_one(tmp_path):
    text = next(block for block in blocks(README, "yaml") if block.startswith("route:"))
    assert yaml.safe_load(text)["receivers"]
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("amtool is not installed")
    path = tmp_path / "alertmanager.yml"
    path.write_text(text)
    checked = subprocess.run([amtool, "check-config", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_every_setting_is_documented_with_its_default():
    for name, setting in Settings.model_fields.items():
        assert f"`{name}`" in CONFIGURATION, name
        row = next(line for line in CONFIGURATION.splitlines() if line.startswith("|") and f"`{name}`" in line)
        if setting.default is None or setting.is_required() or setting.default_factory or setting.default in ("", ()):
            continue
        default = setting.default
        words = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert f"`{brief(default) if hasattr(default, 'total_seconds') else words}`" in row, name


def test_the_maintenance_example_is_valid():
    text = next(block for block in blocks(CONFIGURATION, "yaml") if block.startswith("windows:"))
    assert [window.name for window in parse_windows(text, "maintenance.yaml")] == ["database-upgrade", "nightly-batch"]


def test_the_services_examples_are_valid_and_what_is_said_to_be_the_default_is():
    whole, causes = (parse_services(dedent(text), "s") for text in blocks((ROOT / "docs/services.md").read_text(), "yaml"))
    assert [service.name for service in whole.services] == ["shop-api", "shop-cache", "shop-db", "payments"]
    assert (causes.causes, causes.recovery) == (CAUSES, RECOVERY)


def test_the_configuration_example_is_valid():
    Settings.model_validate(yaml.safe_load(blocks(CONFIGURATION, "yaml")[0]))


def test_every_command_that_the_readme_types_exists():
    known = parser().format_help()
    for command in set(re.findall(r"remediator (?!serves)([a-z]+)(?= |$|`)", "\n".join(blocks(README, "console")))):
        assert command in known, command


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


CATALOGUE = [f"{part}.{row}" for part, rows in ((1, 18), (2, 6), (3, 14)) for row in range(1, rows + 1)]


def test_the_page_of_what_is_covered_has_every_row_of_the_catalogue_and_says_what_is_there():
    page = (ROOT / "docs/coverage.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if re.match(r"\| \d", line)]
    assert [row[0] for row in rows] == CATALOGUE
    for number, _, status, where, test, missing in rows:
        named = re.findall(r"`([^`]+/[^`]+)`", where + test)
        assert [path for path in named if not (ROOT / path).exists()] == [], number
        said = status, bool(where), bool(test), bool(missing)
        assert said in [("done", True, True, False), ("part", True, True, True), ("open", False, False, True)], number
