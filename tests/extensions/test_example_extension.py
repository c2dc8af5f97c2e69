"""The example of docs/extensions.md, built, installed and used by the real commands and a real service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.builders import webhook_alert, webhook_message
from tests.e2e.remediator_process import remediator_process
from tests.extensions.packages import EXAMPLE, install_example, put_package

PAGE = (Path(__file__).parents[2] / "docs" / "extensions.md").read_text()
OPTIONS, PLAYBOOK = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
CASES = """
cases:
  - name: The flag is turned off
    alert: {alertname: CheckoutErrors, flag: new-checkout}
    world: {cured_by: flags.turn_off, numbers: {flags.state.on: 1}}
    expect:
      0s: wait settling until 30s
      30s: flags.turn_off shop-checkout done
      35s: succeeded verified
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example(tmp_path_factory.mktemp("site"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with the configuration, the playbook and the cases of the page."""
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({"new-checkout": True, "dark": True}))
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "checkout-errors.yaml").write_text(PLAYBOOK)
    (tmp_path / "playbooks" / "checkout-errors.cases.yaml").write_text(CASES)
    (tmp_path / "remediator.yaml").write_text(OPTIONS.replace("/etc/shop/flags.json", str(flags)) + "docker_url: 'off'\n")
    return tmp_path


def environment(site: Path, home: Path) -> Mapping[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("REMEDIATOR_")}
    return others | {"PYTHONPATH": str(site), "REMEDIATOR_CONFIG": str(home / "remediator.yaml")}


def ran(site: Path, home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m ARGUMENTS`, with these packages installed."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=home, env=environment(site, home), capture_output=True, text=True, timeout=60)


def test_the_page_shows_exactly_the_package_that_is_tested():
    for language, file in (("toml", "pyproject.toml"), ("python", "remediator_flags.py")):
        (shown,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
        assert shown == (EXAMPLE / file).read_text(), file


def test_check_lists_it_and_takes_its_playbook(site, home):
    done = ran(site, home, "remediator", "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "extension flags (remediator-flags 0.3): flags.turn_off, flags.state, flags.is_off\n" in done.stdout
    assert "step 1: flags.turn_off (low, when flags.state.on > 0)" in done.stdout


def test_check_says_which_playbook_needs_it_where_it_is_not_configured(site, home):
    (home / "remediator.yaml").write_text("docker_url: 'off'\n")
    done = ran(site, home, "remediator", "check")
    assert "off: extensions.flags does not stand in the configuration file" in done.stdout
    assert "checkout-errors: flags.turn_off needs extensions.flags in the configuration file; none is configured" in done.stdout


def test_check_names_the_nearest_extension_for_one_that_is_not_installed(site, home):
    (home / "remediator.yaml").write_text("extensions: {flag: {}}\n")
    done = ran(site, home, "remediator", "check")
    assert done.returncode == 1
    assert "extensions.flag: no such extension is installed: did you mean 'flags'?" in done.stdout


def test_a_typo_in_its_words_is_told_like_any_other(site, home):
    (home / "playbooks" / "checkout-errors.yaml").write_text(PLAYBOOK.replace("flags.turn_off:", "flags.turn_of:"))
    done = ran(site, home, "remediator", "check")
    assert done.returncode == 1
    assert "did you mean 'flags.turn_off'?" in done.stdout


def test_the_schema_and_the_reference_list_it(site, home):
    schema = json.loads(ran(site, home, "remediator", "schema").stdout)
    assert "flags.turn_off" in json.dumps(schema)
    reference = ran(site, home, "remediator.playbook_reference").stdout
    for name in ("flags.turn_off", "flags.state", "flags.is_off"):
        assert re.search(rf"### `{re.escape(name)}`\n\n[^\n]+ Added by remediator-flags 0.3\.\n", reference), name
    assert "Added by" not in reference.partition("### `restart`")[2].partition("###")[0]


def test_its_playbooks_are_played_on_virtual_time(site, home):
    done = ran(site, home, "remediator", "test", "playbooks")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_running_service_repairs_by_it(site, home, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))
    settings = yaml.safe_load((home / "remediator.yaml").read_text())
    with remediator_process(home, {"checkout-errors": PLAYBOOK + "limits: {settle: 0s}\n"}, **settings) as remediator:
        remediator.start()
        alert = webhook_alert(starts_at=datetime.now(UTC), alertname="CheckoutErrors", flag="new-checkout")
        assert remediator.post(webhook_message(alert)) == 200
        run = remediator.ended_run()
        assert (run["state"], run["target"]) == ("succeeded", "flags:file/shop-checkout")
        assert json.loads((home / "flags.json").read_text()) == {"new-checkout": False, "dark": True}
        assert remediator.told(run, "outcome")[0]["said"] == "turned new-checkout off"
        assert remediator.told(run, "verification")[0]["seen"] == "new-checkout is off"
        assert remediator.metric("actions_total", step="flags.turn_off", outcome="done") == 1
        assert '"package": "remediator-flags 0.3", "opened": true' in remediator.log_text()


def test_options_that_it_refuses_stop_the_start_with_what_to_write(site, home):
    (home / "remediator.yaml").write_text("extensions: {flags: {}}\ndocker_url: 'off'\n")
    done = ran(site, home, "remediator", "serve")
    assert done.returncode == 2
    assert "extensions.flags in the configuration file (remediator-flags 0.3): write {file: /etc/shop/flags.json" in done.stderr


@pytest.mark.parametrize(
    "command", [["serve"], ["check"], ["schema"], ["test", "playbooks"], ["explain", "alert.json"]], ids=" ".join
)
def test_a_broken_package_is_named_by_every_command_and_stops_the_start(tmp_path, home, command):
    broken = tmp_path / "broken"
    broken.mkdir()
    put_package(broken, "remediator-broken", "import jq_that_nobody_has")
    (home / "remediator.yaml").write_text("docker_url: 'off'\n")
    (home / "alert.json").write_text(json.dumps({"labels": {"alertname": "CheckoutErrors"}}))
    done = ran(broken, home, "remediator", *command)
    assert done.returncode == (1 if command == ["check"] else 2)
    told = done.stdout + done.stderr
    assert (
        "package remediator-broken 1.0: entry point remediator_broken = remediator_broken:EXTENSION: cannot be loaded" in told
    )
    assert "pip uninstall remediator-broken" in told
    assert "Traceback" not in told
