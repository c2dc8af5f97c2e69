"""The command line as its users meet it: what it prints, and its exit status (0 fine, 1 found something, 2 wrong use)."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jsonschema
import pytest
import yaml

from remediator.cli.main import parser
from remediator.storage.migrate import HEAD
from tests.builders import PLAYBOOK, webhook_alert, webhook_message
from tests.fakes import FakePlatform, Harness, harness
from tests.servers import eventually

ANN = {"REMEDIATOR_OPERATOR_TOKEN": "s3cret"}
COMMANDS = [
    "serve",
    "check",
    "explain",
    "runs",
    "pause",
    "resume",
    "approve",
    "reject",
    "breaker",
    "test",
    "rules",
    "schema",
    "migrate",
    "demo",
]


def remediator(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REMEDIATOR_")}
    return subprocess.run(
        [sys.executable, "-m", "remediator", *arguments],
        cwd=cwd, env={**clean, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONWARNINGS": "error", **environment},
        input=stdin, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def shop(tmp_path) -> Path:
    """A directory with one playbook and a service under the command platform."""
    (tmp_path / "playbooks").mkdir()
    (tmp_path / "playbooks" / "api-down.yaml").write_text(PLAYBOOK)
    service = {"service": "shop-api", "allow": ["restart"], "restart": ["true"], "status": ["false"]}
    config = {"docker_url": "", "commands": {"shop-api": service}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_shows_an_example_that_its_own_parser_takes(self, command, capsys):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([command, "--help"])
        assert ended.value.code == 0
        example = re.search(r"example: (?:\w+=\S+ )*remediator ([^>\n]+)", capsys.readouterr().out)
        assert example, "no example"
        parser().parse_args(shlex.split(example[1]))

    def test_all_commands_are_listed(self, tmp_path):
        ran = remediator("--help", cwd=tmp_path)
        assert ran.returncode == 0
        assert all(command in ran.stdout for command in COMMANDS)

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["odd"],
            ["runs"],
            ["runs", "show"],
            ["pause"],
            ["explain"],
            ["approve", "r1"],
            ["breaker", "reset", "--why", "x"],
        ],
        ids=" ".join,
    )
    def test_wrong_use_ends_with_2(self, arguments, tmp_path, capsys):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args(arguments)
        assert ended.value.code == 2


class TestCheck:
    def test_planned_maintenance_is_shown_and_what_is_forgotten_in_it_is_named(self, shop):
        head = "who: ann, matchers: ['service = shop-db']"
        (shop / "plan.yaml").write_text(
            f"windows:\n  - {{name: always, {head}, time_intervals: [{{weekdays: ['sunday:saturday']}}]}}\n"
            f"  - {{name: old, {head}, from: '2020-01-01T00:00:00Z', until: '2020-01-02T00:00:00Z'}}\n"
        )
        ran = remediator("check", cwd=shop, REMEDIATOR_CONFIG="config.yaml", REMEDIATOR_MAINTENANCE_FILE="plan.yaml")
        assert ran.returncode == 0, ran.stderr
        assert 'maintenance always (ann): service="shop-db": in force now; it never ends' in ran.stdout
        assert 'maintenance old (ann): service="shop-db": over since 2020-01-02 00:00 UTC: remove it' in ran.stdout

    def test_who_needs_whom_is_listed_and_a_circle_is_named_with_its_line(self, shop):
        file = shop / "services.yaml"
        file.write_text("services:\n- {name: web, needs: [api]}\n- {name: api, needs: [db]}\n- {name: db}\n")
        ran = remediator("check", cwd=shop, REMEDIATOR_CONFIG="config.yaml", REMEDIATOR_SERVICES_FILE="services.yaml")
        assert ran.returncode == 0, ran.stderr
        assert [line for line in ran.stdout.splitlines() if line.startswith("service ")] == [
            "service api needs db",
            "service web needs api, db",
        ]
        file.write_text(file.read_text().replace("name: db", "name: db, needs: [web]"))
        ran = remediator("check", cwd=shop, REMEDIATOR_CONFIG="config.yaml", REMEDIATOR_SERVICES_FILE="services.yaml")
        assert ran.returncode == 1
        assert (
            "services.yaml:2: services[0].needs: nothing could ever be repaired first: web needs api, which needs db"
            in ran.stdout
        )

    def test_a_wrong_maintenance_file_is_named_with_its_line(self, shop):
        (shop / "plan.yaml").write_text("windows:\n  - name: x\n    who: ann\n    matcher: []\n")
        ran = remediator("check", cwd=shop, REMEDIATOR_CONFIG="config.yaml", REMEDIATOR_MAINTENANCE_FILE="plan.yaml")
        assert ran.returncode == 1
        assert "plan.yaml:4: windows[0].matcher: unknown field 'matcher'; did you mean 'matchers'?" in ran.stdout

    def test_good_playbooks_are_shown_with_the_modes_and_limits_that_apply(self, shop):
        ran = remediator("check", cwd=shop)
        assert ran.returncode == 0
        assert "step 1: restart (disruptive): suggest (REMEDIATOR_MODE)" in ran.stdout
        assert "limits.cooldown: 10m" in ran.stdout
        assert "REMEDIATOR_WEBHOOK_TOKEN_FILE" in ran.stdout

    def test_what_a_playbook_needs_and_nobody_has_configured_is_said_beforehand(self, shop):
        asks = PLAYBOOK.replace("all: [healthy]", "any: [healthy, http, {promql: up}, redis.ping, {http: {path: /live}}]")
        (shop / "playbooks" / "api-down.yaml").write_text(asks)
        (shop / "config.yaml").write_text("services: {shop-cache: {redis: 'redis://shop-cache:6379/0'}}")
        ran = remediator("check", cwd=shop, REMEDIATOR_CONFIG="config.yaml")
        assert [line for line in ran.stdout.splitlines() if line.startswith("api-down: ") and " needs " in line] == [
            "api-down: http needs services.<service>.http in the configuration file; none is configured",
            "api-down: promql needs REMEDIATOR_PROMETHEUS_URL; none is configured",
        ]
        assert "off: no annotations (REMEDIATOR_GRAFANA_URL)" in ran.stdout
        assert "off: escalations go to the log and the metrics only (REMEDIATOR_ESCALATION_URL)" in ran.stdout
        assert ran.returncode == 0

    def test_a_bad_one_is_named_with_file_line_and_field_and_what_to_write(self, shop):
        (shop / "playbooks" / "api-down.yaml").write_text(PLAYBOOK.replace("restart:", "restrat:"))
        ran = remediator("check", cwd=shop)
        assert ran.returncode == 1
        assert re.search(r"api-down\.yaml:9: .*did you mean 'restart'", ran.stdout)

    def test_an_operator_s_token_in_the_environment_is_no_bad_setting(self, shop):
        assert remediator("check", cwd=shop, REMEDIATOR_OPERATOR_TOKEN="s3cret").returncode == 0

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("REMEDIATOR_MODE", "atuo", "auto"),
            ("REMEDIATOR_MDOE", "auto", "REMEDIATOR_MODE"),
            ("REMEDIATOR_RETENTION", "29d", "30d, which is as long as a limit looks back"),
            ("REMEDIATOR_PLAYBOOK_MODES", "api-donw=auto", "api-donw"),
            ("REMEDIATOR_WEBHOOK_TOKEN_FILE", "nowhere", "nowhere"),
            ("REMEDIATOR_CONFIG", "nowhere.yaml", "nowhere.yaml"),
            ("REMEDIATOR_PLAYBOOKS", "nowhere", "nowhere"),
        ],
    )
    def test_a_setting_that_cannot_be_used_is_found(self, shop, name, value, said):
        ran = remediator("check", cwd=shop, **{name: value})
        assert ran.returncode == 1
        assert said in ran.stdout + ran.stderr
        assert "Traceback" not in ran.stderr


class TestExplain:
    def explain(self, shop: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return remediator("explain", "-", cwd=shop, stdin=text, REMEDIATOR_CONFIG="config.yaml", **environment)

    def test_every_guard_says_what_it_saw_and_the_ladder_is_shown(self, shop):
        ran = self.explain(shop, webhook_message().decode())
        assert ran.returncode == 0, ran.stderr
        assert "decision  suggest (mode_suggest)" in ran.stdout
        for guard in ("switch", "alive", "target", "settle", "lock", "cooldown", "rate", "breaker", "mode"):
            assert re.search(rf"^  {guard} +(pass|suggest)", ran.stdout, re.MULTILINE), guard
        assert "1. true" in ran.stdout

    @pytest.mark.parametrize(
        "given",
        [
            webhook_alert(),
            [webhook_alert()],
            {"labels": {"alertname": "APIDown", "service": "shop-api"}},
            [{"labels": {"alertname": "APIDown", "service": "shop-api"}, "status": {"state": "active"}}],  # the API's
        ],
        ids=["an alert", "a list", "labels only", "as amtool prints it"],
    )
    def test_any_shape_in_which_people_have_alerts_at_hand_will_do(self, shop, given):
        ran = self.explain(shop, json.dumps(given))
        assert (ran.returncode, "playbook  api-down" in ran.stdout) == (0, True)

    def test_1_for_an_alert_that_no_playbook_matches(self, shop):
        ran = self.explain(shop, json.dumps({"labels": {"alertname": "Other"}}))
        assert (ran.returncode, "none matches" in ran.stdout) == (1, True)

    @pytest.mark.parametrize("text", ["", "nonsense", "7", "{}", '[{"labels": {}}]', '[{"labels": {"a": 7}}]', "[" * 100_000])
    def test_2_for_what_is_not_an_alert_with_a_line_that_says_so(self, shop, text):
        ran = self.explain(shop, text)
        assert ran.returncode == 2
        assert ran.stderr.startswith("remediator: ")
        assert "Traceback" not in ran.stderr

    async def test_what_a_service_needs_and_is_ill_is_shown_with_since_when(self, shop):
        services = shop / "services.yaml"
        services.write_text("services: [{name: shop-api, needs: [shop-db]}, {name: shop-db}]")
        async with harness(shop, services_file=services) as h:
            await h.post(webhook_message(webhook_alert(alertname="DatabaseDown", service="shop-db")))
            await eventually(lambda: h.app.store.run(lambda ledger: ledger.episodes.count_open() == 1))
            ran = await asyncio.to_thread(
                self.explain,
                shop,
                webhook_message().decode(),
                REMEDIATOR_STORE=f"sqlite:///{shop / 'remediator.db'}",
                REMEDIATOR_SERVICES_FILE=str(services),
            )
        assert re.search(
            r"decision  wait \(cause_open\): first its cause: shop-db \(DatabaseDown since \d\d:\d\d:\d\d\)", ran.stdout
        )
        assert re.search(r"^  hold +wait +first its cause: shop-db", ran.stdout, re.MULTILINE)

    def test_nothing_is_written(self, shop):
        before = sorted(path.name for path in shop.iterdir())
        self.explain(shop, webhook_message().decode())
        assert sorted(path.name for path in shop.iterdir()) == before


class TestSchema:
    def test_it_is_a_json_schema_that_takes_a_playbook_and_refuses_a_bad_one(self, tmp_path):
        ran = remediator("schema", cwd=tmp_path)
        assert ran.returncode == 0
        schema = json.loads(ran.stdout)
        jsonschema.Draft202012Validator.check_schema(schema)
        good = yaml.safe_load(PLAYBOOK)
        jsonschema.validate(good, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, "lader": []}, schema)

    def test_the_cases_of_playbooks_have_one_of_their_own(self, tmp_path):
        ran = remediator("schema", "cases", cwd=tmp_path)
        assert ran.returncode == 0
        jsonschema.Draft202012Validator.check_schema(json.loads(ran.stdout))


CASES = """
given: {alert: {alertname: APIDown, service: shop-api}, world: {cured_by: restart}}
cases:
  - name: A restart that helps is all that is done
    expect: {0s: [restart shop-api done, succeeded verified]}
  - name: In mode suggest nothing is done
    settings: {mode: suggest}
    expect: {0s: suggest restart shop-api}
"""


class TestTest:
    def test_cases_that_pass_end_with_0(self, shop):
        (shop / "playbooks" / "api-down.cases.yaml").write_text(CASES)
        ran = remediator("test", "playbooks", cwd=shop)
        assert (ran.returncode, ran.stderr) == (0, "")
        *lines, last = ran.stdout.splitlines()
        assert lines == [
            "playbooks/api-down.cases.yaml",
            "  ok      A restart that helps is all that is done",
            "  ok      In mode suggest nothing is done",
        ]
        assert re.fullmatch(r"2 cases passed: \d+s played in \d+\.\d s", last)

    def test_a_case_that_fails_ends_with_1_and_shows_the_difference(self, shop):
        (shop / "playbooks" / "api-down.cases.yaml").write_text(CASES.replace("shop-api done", "shop-api failed"))
        ran = remediator("test", cwd=shop)
        assert ran.returncode == 1
        assert "  FAILED  A restart that helps is all that is done  (playbooks/api-down.cases.yaml:4)" in ran.stdout
        assert re.search(r"-\s+0s  restart shop-api failed", ran.stdout)
        assert re.search(r"\+\s+0s  restart shop-api done", ran.stdout)
        assert "1 of 2 cases failed" in ran.stdout

    def test_only_some_cases_may_be_played(self, shop):
        (shop / "playbooks" / "api-down.cases.yaml").write_text(CASES)
        ran = remediator("test", "playbooks/api-down.cases.yaml", "--only", "MODE", cwd=shop)
        assert ran.returncode == 0
        assert "1 case passed" in ran.stdout
        assert "all that is done" not in ran.stdout

    @pytest.mark.parametrize(
        ("cases", "arguments", "said"),
        [
            (CASES.replace("cured_by", "curd_by"), [], "playbooks/api-down.cases.yaml:2: given.world.curd_by: unknown field"),
            (CASES, ["--only", "nothing of the kind"], "playbooks: no case has 'nothing of the kind' in its name"),
            (CASES, ["other"], "other: is not called <playbook>.cases.yaml, nor a directory"),
            (None, [], "playbooks: there are no cases to play"),
        ],
    )
    def test_what_cannot_be_played_ends_with_2(self, shop, cases, arguments, said):
        if cases is not None:
            (shop / "playbooks" / "api-down.cases.yaml").write_text(cases)
        ran = remediator("test", *arguments, cwd=shop)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert said in ran.stderr


class TestServe:
    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("REMEDIATOR_STORE", "mysql://x", "sqlite:///data/remediator.db"),
            ("REMEDIATOR_STORE", "sqlite:////dev/null/x.db", "/dev/null"),
            ("REMEDIATOR_STORE", "sqlite:///config.yaml", "config.yaml"),
            ("REMEDIATOR_LISTEN", "nowhere", ":9595"),
            ("REMEDIATOR_LISTEN", "192.0.2.1:1", "192.0.2.1:1"),
            ("REMEDIATOR_LISTEN", "127.0.0.1:99999", "127.0.0.1:99999"),
            ("REMEDIATOR_PLAYBOOKS", "nowhere", "nowhere"),
            ("REMEDIATOR_OPERATORS_FILE", "config.yaml", "config.yaml:"),
        ],
    )
    def test_2_and_a_line_that_says_what_to_change_if_it_cannot_start(self, shop, name, value, said):
        started = {"REMEDIATOR_CONFIG": "config.yaml", "REMEDIATOR_LISTEN": "127.0.0.1:0", name: value}
        ran = remediator("serve", cwd=shop, **started)
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
        assert "Traceback" not in ran.stderr

    def test_migrate_says_what_it_did(self, tmp_path):
        store = {"REMEDIATOR_STORE": "sqlite:///new.db"}
        assert remediator("migrate", cwd=tmp_path, **store).stdout == f"the schema is {HEAD}; it was not there\n"
        assert remediator("migrate", cwd=tmp_path, **store).stdout == f"the schema is {HEAD}\n"


class TestRemote:
    """`runs`, `pause` and `resume`, against a remediator that runs."""

    async def ask(self, h, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(remediator, *arguments, "--url", h.url, cwd=Path.cwd(), **environment)

    @asynccontextmanager
    async def staffed(self, directory: Path) -> AsyncIterator[Harness]:
        """A remediator that asks ann before it restarts anything."""
        (directory / "operators").write_text("ann:s3cret\n")
        asks = PLAYBOOK.replace("1s}", "1s}\n    approval: required")
        async with harness(directory, playbooks=[asks], operators_file=directory / "operators") as h:
            h.session.headers["Authorization"] = "Bearer s3cret"
            yield h

    async def test_runs_are_listed_and_one_is_shown_as_a_timeline(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("succeeded")
            listed = await self.ask(h, "runs", "list")
            assert (listed.returncode, run["id"] in listed.stdout) == (0, True)
            shown = await self.ask(h, "runs", "show", run["id"])
            told = [line.partition("  ")[2].strip()[14:] for line in shown.stdout.splitlines() if ":" in line[:12]]
            assert shown.returncode == 0
            assert "step 1: docker restart -t 1 shop-api-1" in shown.stdout
            assert told[-1].endswith("ended as succeeded (verified)")
            as_json = await self.ask(h, "runs", "list", "--json")
            assert json.loads(as_json.stdout)[0]["id"] == run["id"]

    async def test_pause_and_resume_say_who_and_why(self, tmp_path):
        async with harness(tmp_path) as h:
            paused = await self.ask(h, "pause", "--by", "ann", "--why", "migration")
            assert (paused.returncode, paused.stdout) == (0, "paused by ann: migration\n")
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) is not None
            resumed = await self.ask(h, "resume", "--by", "ann", "--why", "done")
            assert (resumed.returncode, resumed.stdout) == (0, "resumed by ann: done\n")

    async def test_an_operator_s_token_comes_from_the_environment(self, tmp_path):
        (tmp_path / "operators").write_text("ann:s3cret\n")
        async with harness(tmp_path, operators_file=tmp_path / "operators") as h:
            refused = await self.ask(h, "runs", "list")
            assert (refused.returncode, "REMEDIATOR_OPERATORS_FILE" in refused.stderr) == (1, True)
            assert (await self.ask(h, "runs", "list", REMEDIATOR_OPERATOR_TOKEN="s3cret")).returncode == 0

    async def test_a_question_is_shown_and_exactly_its_plan_is_approved(self, tmp_path):
        async with self.staffed(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("asked")
            listed = await self.ask(h, "runs", "list", "--state", "asked", **ANN)
            assert run["id"] in listed.stdout
            ran = await self.ask(h, "approve", run["id"], "--by", "ann", "--why", "go ahead", **ANN)
            assert (ran.returncode, ran.stderr) == (0, "")
            (given,) = [row for row in await h.timeline(run["id"]) if row["kind"] == "approval"]
            assert f"asks      plan {given['data']['plan']}, until" in ran.stdout
            assert "would do  docker restart -t 1 shop-api-1" in ran.stdout
            assert "approved by ann: go ahead, to be used once, until" in ran.stdout
            await h.until("succeeded")

    async def test_a_rejection_says_who_and_why(self, tmp_path):
        async with self.staffed(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("asked")
            ran = await self.ask(h, "reject", run["id"], "--why", "not now", **ANN)
            assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "rejected by ann: not now")
            await h.until("refused")

    @pytest.mark.parametrize(
        ("arguments", "said"), [(["--by", "bob"], "in another's name"), (["--plan", "0123"], "asks about plan")]
    )
    async def test_1_for_another_s_name_or_another_plan(self, tmp_path, arguments, said):
        async with self.staffed(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("asked")
            ran = await self.ask(h, "approve", run["id"], "--why", "x", *arguments, **ANN)
            assert (ran.returncode, said in ran.stderr) == (1, True)
            assert (await h.runs())[0]["state"] == "asked"

    async def test_1_for_a_run_that_asks_nothing(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("succeeded")
            ran = await self.ask(h, "approve", run["id"], "--why", "x")
            assert (ran.returncode, "asks nothing now: it is succeeded (verified)" in ran.stderr) == (1, True)

    async def test_breakers_are_listed_and_reset(self, tmp_path):
        quick = PLAYBOOK.replace("give_up: 30m", "give_up: 30m, breaker: {failures: 1}")
        async with harness(tmp_path, FakePlatform(cures=frozenset()), [quick]) as h:
            await h.post(webhook_message())
            await h.until("escalated")
            target = "docker:container/shop-api-1"
            listed = await self.ask(h, "breaker", "list")
            assert (listed.returncode, target in listed.stdout, "open" in listed.stdout) == (0, True, True)
            ran = await self.ask(h, "breaker", "reset", "--target", target, "--by", "ann", "--why", "disk replaced")
            assert (ran.returncode, ran.stdout) == (0, f"the breaker of target {target} was reset by ann: disk replaced\n")
            again = await self.ask(h, "breaker", "reset", "--target", target, "--by", "ann", "--why", "disk replaced")
            assert (again.returncode, "nothing to reset" in again.stderr) == (1, True)

    async def test_1_for_a_run_that_is_not_there(self, tmp_path):
        async with harness(tmp_path) as h:
            ran = await self.ask(h, "runs", "show", "nothing")
            assert (ran.returncode, ran.stderr) == (1, "remediator: there is no run nothing\n")

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "http://", "file:///etc/hostname", "http://[bad"])
    def test_1_and_the_address_if_nobody_answers(self, tmp_path, url):
        ran = remediator("runs", "list", "--url", url, cwd=tmp_path)
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"remediator: no remediator answers at {url}".rstrip("/"))
        assert "Traceback" not in ran.stderr
