"""The API: who may, what is put on record, and that its description is the truth."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.snapshot import Paused
from remediator.ingress.auth import BadSecretFile, read_operators
from remediator.ingress.openapi import OPENAPI
from tests.builders import PLAYBOOK, webhook_message
from tests.fakes import Harness, harness

ANN = {"Authorization": "Bearer token-of-ann"}
COMMANDS = [("POST", "/-/reload"), ("POST", "/api/v1/pause"), ("POST", "/api/v1/resume"), ("POST", "/api/v1/breaker/reset")]
LOOKS = [("GET", "/api/v1/runs"), ("GET", "/api/v1/breakers"), ("GET", "/api/v1/runs/x")]
ANSWERS = [("POST", "/api/v1/runs/x/approve"), ("POST", "/api/v1/runs/x/reject")]
FOR_PEOPLE = [*COMMANDS, *LOOKS, *ANSWERS]
FOR_ALL = ["/metrics", "/-/healthy", "/-/ready", "/api/v1/openapi.json"]


@pytest.fixture
def operators(tmp_path) -> Path:
    path = tmp_path / "operators"
    path.write_text("# people\nann:token-of-ann\n\nbob: token:of:bob\n")
    return path


async def ask(h: Harness, method: str, path: str, **options) -> tuple[int, str]:
    async with h.session.request(method, h.url + path, **options) as response:
        return response.status, await response.text()


class TestWhoMay:
    @pytest.mark.parametrize(("method", "path"), FOR_PEOPLE)
    @pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic token-of-ann", "Bearer webhook-secret", "Bearer "])
    async def test_only_operators_where_they_are_configured(self, tmp_path, operators, method, path, authorization):
        async with harness(tmp_path, operators_file=operators) as h:
            status, _ = await ask(h, method, path, headers={"Authorization": authorization}, json={"why": "x"})
            assert status == 401

    @pytest.mark.parametrize("token", ["token-of-ann", "token:of:bob"])
    async def test_an_operator_may(self, tmp_path, operators, token):
        async with harness(tmp_path, operators_file=operators) as h:
            status, _ = await ask(h, "GET", "/api/v1/runs", headers={"Authorization": f"Bearer {token}"})
            assert status == 200

    @pytest.mark.parametrize("second", ["ann:another", "bob:token-of-ann"])
    def test_a_name_is_one_person_s_and_so_is_a_token(self, tmp_path, second):
        path = tmp_path / "operators"
        path.write_text(f"ann:token-of-ann\n{second}\n")
        with pytest.raises(BadSecretFile, match=r"operators:2: each name and each token is one person's only"):
            read_operators(path)

    @pytest.mark.parametrize("path", FOR_ALL)
    async def test_health_and_metrics_are_for_everybody(self, tmp_path, operators, path):
        async with harness(tmp_path, operators_file=operators) as h:
            assert (await ask(h, "GET", path))[0] == 200

    @pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
    async def test_without_operators_whoever_comes_through_a_proxy_is_not_local(self, tmp_path, header):
        async with harness(tmp_path) as h:
            status, _ = await ask(h, "GET", "/api/v1/runs", headers={header: "for=192.0.2.1"})
            assert status == 403

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9595", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:9595"])
    async def test_without_operators_a_local_caller_names_this_host(self, tmp_path, host):
        async with harness(tmp_path) as h:
            assert (await ask(h, "GET", "/api/v1/runs", headers={"Host": host}))[0] == 200

    @pytest.mark.parametrize(("method", "path"), FOR_PEOPLE)
    @pytest.mark.parametrize(
        "host", ["evil.example:9595", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "0.0.0.0", "[::1", ""]
    )
    async def test_without_operators_a_name_that_somebody_has_rebound_to_this_host_is_refused(
        self, tmp_path, method, path, host
    ):
        async with harness(tmp_path) as h:
            assert (await ask(h, method, path, headers={"Host": host}, json={"by": "eve", "why": "x"}))[0] == 403

    @pytest.mark.parametrize(("method", "path"), FOR_PEOPLE)
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000"])
    async def test_without_operators_no_web_page_may_whatever_page_it_is(self, tmp_path, method, path, origin):
        async with harness(tmp_path) as h:
            before = h.app.shelf.index
            assert (await ask(h, method, path, headers={"Origin": origin}, json={"by": "eve", "why": "x"}))[0] == 403
            assert h.app.shelf.index is before
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) is None

    async def test_an_operator_s_token_is_enough_at_any_address(self, tmp_path, operators):
        async with harness(tmp_path, operators_file=operators) as h:
            headers = {**ANN, "Host": "remediator.example", "Origin": "https://console.example"}
            assert (await ask(h, "GET", "/api/v1/runs", headers=headers))[0] == 200

    async def test_a_form_in_somebody_s_browser_cannot_pause(self, tmp_path):
        async with harness(tmp_path) as h:
            status, _ = await ask(h, "POST", "/api/v1/pause", data={"by": "eve", "why": "x"})
            assert status == 415
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) is None


class TestSwitch:
    async def test_a_pause_is_on_record_with_who_and_why(self, tmp_path):
        async with harness(tmp_path) as h:
            status, said = await ask(h, "POST", "/api/v1/pause", json={"by": "ann", "why": "migration"})
            assert (status, json.loads(said)) == (200, {"paused": True, "by": "ann", "why": "migration"})
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) == Paused("ann", "migration")
            assert ("switch.paused", {"by": "ann", "why": "migration"}) in h.log.events

    async def test_an_operator_s_name_comes_from_the_token_and_from_nowhere_else(self, tmp_path, operators):
        async with harness(tmp_path, operators_file=operators) as h:
            await ask(h, "POST", "/api/v1/pause", json={"by": "somebody else", "why": "migration"}, headers=ANN)
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) == Paused("ann", "migration")

    async def test_a_pause_survives_a_restart(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.command("pause")
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("waiting")
            assert run["reason"] == "paused"

    @pytest.mark.parametrize(
        "body", ["{}", '{"by": "ann"}', '{"why": "x"}', '{"by": "", "why": "x"}', '{"by": 7, "why": "x"}',
                 '{"by": "ann", "why": " "}', "[]", "nonsense", "[" * 50_000, "\ud800"],
    )  # fmt: skip
    async def test_without_who_and_why_nothing_happens(self, tmp_path, body):
        async with harness(tmp_path) as h:
            headers = {"Content-Type": "application/json"}
            status, _ = await ask(h, "POST", "/api/v1/pause", data=body.encode(errors="surrogatepass"), headers=headers)
            assert status == 400
            assert await h.app.store.run(lambda ledger: ledger.claims.paused()) is None


class TestAnswers:
    """Who may answer, and what an answer must say. What it does: tests/run/test_approvals.py."""

    @pytest.mark.parametrize("verb", ["approve", "reject"])
    async def test_a_caller_on_the_same_host_is_no_named_person(self, tmp_path, verb):
        async with harness(tmp_path) as h:
            status, said = await ask(h, "POST", f"/api/v1/runs/x/{verb}", json={"plan": "p", "why": "x", "by": "ann"})
            assert (status, "REMEDIATOR_OPERATORS_FILE" in said) == (403, True)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({}, 400), ({"plan": "p"}, 400), ({"why": "x"}, 400), ({"plan": "p", "why": " "}, 400),
            ({"plan": 7, "why": "x"}, 400), ({"plan": "p", "why": "x" * 2000}, 400),
            ({"plan": "p", "why": "\x00"}, 400), ({"plan": "p", "why": "\ud800"}, 400),
            ({"plan": "p", "why": "x", "by": "bob"}, 403), ({"plan": "p", "why": "x", "by": 7}, 403),
            ({"plan": "p", "why": "x", "by": "ann"}, 404), ({"plan": "p", "why": "x"}, 404),
        ],
    )  # fmt: skip
    async def test_it_names_a_plan_says_why_and_speaks_for_nobody_else(self, tmp_path, operators, body, status):
        async with harness(tmp_path, operators_file=operators) as h:
            assert (await ask(h, "POST", "/api/v1/runs/nothing/approve", json=body, headers=ANN))[0] == status

    async def test_409_and_what_it_does_instead_for_a_run_that_asks_nothing(self, tmp_path, operators):
        async with harness(tmp_path, operators_file=operators) as h:
            h.session.headers.update(ANN)
            await h.post(webhook_message())
            (run,) = await h.until("succeeded")
            status, said = await ask(h, "POST", f"/api/v1/runs/{run['id']}/approve", json={"plan": "p", "why": "x"})
            assert (status, json.loads(said)["asked"]) == (409, None)
            assert "it is succeeded (verified)" in said

    async def test_409_and_what_is_asked_for_another_plan(self, tmp_path, operators):
        asks = PLAYBOOK.replace("1s}", "1s}\n    approval: required")
        async with harness(tmp_path, playbooks=[asks], operators_file=operators) as h:
            h.session.headers.update(ANN)
            await h.post(webhook_message())
            (run,) = await h.until("asked")
            status, said = await ask(h, "POST", f"/api/v1/runs/{run['id']}/approve", json={"plan": "p", "why": "x"})
            shown = json.loads((await ask(h, "GET", f"/api/v1/runs/{run['id']}"))[1])["run"]["asked"]
            assert (status, json.loads(said)["asked"]) == (409, shown)
            assert shown["command"] == "docker restart -t 1 shop-api-1"


class TestRuns:
    async def test_a_run_is_shown_with_its_story(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            (run,) = await h.until("succeeded")
            told = [row["text"] for row in await h.timeline(run["id"]) if row["text"]]
            assert told[0] == "decided to act (clear): every guard passes"
            assert told[-1] == "ended as succeeded (verified)"

    @pytest.mark.parametrize("run", ["nothing", "%00", "%ED%A0%80", "..", "x" * 5000, "'; DROP TABLE runs; --"])
    async def test_404_for_a_run_that_is_not_there(self, tmp_path, run):
        async with harness(tmp_path) as h:
            assert (await ask(h, "GET", f"/api/v1/runs/{run}"))[0] == 404

    @pytest.mark.parametrize(
        "query", ["state=odd", "limit=0", "limit=501", "limit=-1", "limit=x", "limit=%C2%B2", "limit=" + "9" * 5000]
    )
    async def test_400_for_a_question_that_makes_no_sense(self, tmp_path, query):
        async with harness(tmp_path) as h:
            status, said = await ask(h, "GET", f"/api/v1/runs?{query}")
            assert (status, "error" in json.loads(said)) == (400, True)

    async def test_runs_are_filtered_by_state(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            await h.until("succeeded")
            assert json.loads((await ask(h, "GET", "/api/v1/runs?state=escalated"))[1]) == {"runs": []}


class TestReload:
    async def test_new_playbooks_are_taken(self, tmp_path):
        async with harness(tmp_path) as h:
            (tmp_path / "playbooks" / "web-down.yaml").write_text(
                PLAYBOOK.replace("api-down", "web-down").replace("APIDown", "WebDown")
            )
            assert (await ask(h, "POST", "/-/reload"))[0] == 200
            assert [playbook.name for playbook in h.app.shelf.index.playbooks] == ["api-down", "web-down"]

    async def test_bad_ones_are_refused_and_the_old_ones_kept_and_metric_log_and_answer_say_so(self, tmp_path):
        async with harness(tmp_path) as h:
            before = h.app.shelf.index
            (tmp_path / "playbooks" / "api-down.yaml").write_text(PLAYBOOK.replace("restart:", "restrat:"))
            status, said = await ask(h, "POST", "/-/reload")
            assert status == 422
            (problem,) = json.loads(said)["problems"]
            assert "api-down.yaml:9: ladder" in problem
            assert "restart" in problem
            assert h.app.shelf.index is before
            assert "remediator_config_last_reload_successful 0.0" in await h.metrics()
            assert "playbooks.rejected" in h.log.names()

    async def test_planned_maintenance_is_read_with_them_and_a_bad_file_changes_neither(self, tmp_path):
        plan = tmp_path / "maintenance.yaml"
        window = "windows: [{name: %s, who: ann, matchers: ['a = b'], time_intervals: [{weekdays: [sunday]}]}]"
        plan.write_text(window % "first")
        async with harness(tmp_path, maintenance_file=plan) as h:
            assert "maintenance.endless" in h.log.names()
            plan.write_text(window % "second")
            assert (await ask(h, "POST", "/-/reload"))[0] == 200
            plan.write_text("windows: [{name: third}]")
            (tmp_path / "playbooks" / "web-down.yaml").write_text(
                PLAYBOOK.replace("api-down", "web-down").replace("APIDown", "WebDown")
            )
            assert (await ask(h, "POST", "/-/reload"))[0] == 422
            assert [one.name for one in h.app.shelf.policy.maintenance] == ["second"]
            assert [one.name for one in h.app.shelf.index.playbooks] == ["api-down"]

    async def test_an_empty_directory_does_not_unload_everything(self, tmp_path):
        async with harness(tmp_path) as h:
            (tmp_path / "playbooks" / "api-down.yaml").unlink()
            assert (await ask(h, "POST", "/-/reload"))[0] == 422
            assert h.app.shelf.index.playbooks

    async def test_the_next_good_reload_clears_the_metric(self, tmp_path):
        async with harness(tmp_path) as h:
            path = tmp_path / "playbooks" / "api-down.yaml"
            for text, status, metric in (("nonsense", 422, "0.0"), (PLAYBOOK, 200, "1.0")):
                path.write_text(text)
                assert (await ask(h, "POST", "/-/reload"))[0] == status
                assert f"remediator_config_last_reload_successful {metric}" in await h.metrics()


class TestDescription:
    async def test_the_described_routes_are_the_real_ones(self, tmp_path):
        described = {(method.upper(), path) for path, item in OPENAPI["paths"].items() for method in item}
        async with harness(tmp_path) as h:
            for method, path in described:
                status, _ = await ask(h, method, path, json={"why": "x", "by": "ann"} if method == "POST" else None)
                assert status not in (404, 405) or "{run}" in path, path
            real = {(method, path.replace("/x", "/{run}")) for method, path in [("POST", "/webhook"), *FOR_PEOPLE]}
            real |= {("GET", path) for path in FOR_ALL}
            assert described == real

    async def test_the_document_names_every_answer_that_is_given(self, tmp_path):
        async with harness(tmp_path, max_body_bytes=1024, body_timeout=timedelta(milliseconds=100)) as h:
            given = {await h.post(body) for body in (webhook_message(), b"x", b"x" * 2000)}
            assert {str(code) for code in given} <= set(OPENAPI["paths"]["/webhook"]["post"]["responses"])
