"""Alertmanager's view of what fires, against a real Alertmanager."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from remediator.outbound.alertmanager import AlertmanagerClient
from remediator.ports import PermanentError, TransientError
from tests.servers import alertmanager_server, eventually, free_port

CONFIG = """
route:
  receiver: nobody
  routes:
    - {matchers: ['team = theirs'], receiver: theirs}
    - {matchers: ['team = both'], receiver: theirs, continue: true}
    - {matchers: ['team =~ "ours|both"'], receiver: remediator}
receivers: [{name: nobody}, {name: theirs}, {name: remediator}, {name: remediator.too}]
inhibit_rules:
  - {source_matchers: ['alertname = HostDown'], target_matchers: ['alertname = Inhibited'], equal: []}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with alertmanager_server(CONFIG) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def alertmanager(server, session) -> AlertmanagerClient:
    return AlertmanagerClient(session, server)


async def fire(session: ClientSession, url: str, labels: dict[str, str], ends: timedelta = timedelta(hours=1)) -> None:
    now = datetime.now(UTC)
    alert = {"labels": labels, "startsAt": (now - timedelta(hours=1)).isoformat(), "endsAt": (now + ends).isoformat()}
    async with session.post(f"{url}/api/v2/alerts", json=[alert]) as answer:
        assert answer.status == 200, await answer.text()


async def test_an_alert_fires_from_its_first_message_until_it_is_resolved(alertmanager, session, server):
    labels = {"alertname": "RedisDown", "service": "cache"}
    assert not (await alertmanager.look(labels)).firing
    await fire(session, server, labels)
    assert (await alertmanager.look(labels)).firing
    await fire(session, server, labels, ends=timedelta(seconds=-1))
    assert not (await alertmanager.look(labels)).firing


async def test_shortly_after_its_start_only_what_it_lists_is_believed(session, server):
    young = AlertmanagerClient(session, server, warm_up=timedelta(hours=1))
    labels = {"alertname": "RedisDown", "service": "young"}
    with pytest.raises(TransientError, match="has been up for"):
        await young.look(labels)
    await fire(session, server, labels)
    assert (await young.look(labels)).firing


async def test_an_alert_with_more_labels_is_another_alert(alertmanager, session, server):
    await fire(session, server, {"alertname": "More", "service": "cache", "instance": "a"})
    assert not (await alertmanager.look({"alertname": "More", "service": "cache"})).firing
    assert not (await alertmanager.look({})).firing
    assert (await alertmanager.look({"service": "cache", "instance": "a", "alertname": "More"})).firing


@pytest.mark.parametrize("value", ['say "no"', "C:\\temp\\", "two\nlines", "a,b={}", "ünïcode ✓", "'single'", "a=~b"])
async def test_values_are_quoted_so_that_none_is_taken_for_syntax(alertmanager, session, server, value):
    await fire(session, server, {"alertname": "Quoted", "value": value})
    assert (await alertmanager.look({"alertname": "Quoted", "value": value})).firing
    assert not (await alertmanager.look({"alertname": "Quoted", "value": value + "x"})).firing


async def silence(session: ClientSession, url: str, alertname: str) -> str:
    """The id of a silence of an hour."""
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": alertname, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(), "createdBy": "test", "comment": "test",
    }  # fmt: skip
    async with session.post(f"{url}/api/v2/silences", json=silence) as answer:
        assert answer.status == 200
        return (await answer.json())["silenceID"]


async def test_silenced_and_inhibited_alerts_are_still_firing_and_say_why_nobody_is_told(alertmanager, session, server):
    by = await silence(session, server, "Silenced")
    for name in ("Silenced", "HostDown", "Inhibited"):
        await fire(session, server, {"alertname": name})
        assert (await alertmanager.look({"alertname": name})).firing, name

    async def reasons() -> list[str]:
        return [(await alertmanager.look({"alertname": name})).reason for name in ("Silenced", "HostDown", "Inhibited")]

    await eventually(lambda: _is(reasons, ["silenced", "clear", "inhibited"]))
    assert (await alertmanager.look({"alertname": "Silenced"})).muted == f"silenced in Alertmanager, by {by}"


async def test_a_silence_that_is_expired_mutes_nobody(alertmanager, session, server):
    by = await silence(session, server, "Expiring")
    await fire(session, server, {"alertname": "Expiring"})

    async def muted() -> bool:
        return bool((await alertmanager.look({"alertname": "Expiring"})).muted)

    await eventually(lambda: _is(muted, True))
    async with session.delete(f"{server}/api/v2/silence/{by}") as answer:
        assert answer.status == 200
    await eventually(lambda: _is(muted, False))


async def _is(fact, wanted) -> bool:
    return await fact() == wanted


class TestEverything:
    async def test_it_is_all_that_is_routed_to_our_receiver_the_muted_too_and_nothing_else(self, alertmanager, session, server):
        await silence(session, server, "Quiet")
        for name, team in (("Loud", "ours"), ("Quiet", "ours"), ("Shared", "both"), ("Other", "theirs")):
            await fire(session, server, {"alertname": name, "team": team})
        await fire(session, server, {"alertname": "Over", "team": "ours"}, ends=timedelta(seconds=-1))

        async def listed() -> dict[str, bool]:
            found = (await alertmanager.everything()).alerts
            return {one.alert.labels["alertname"]: bool(one.listing.muted) for one in found}

        await eventually(lambda: _is(listed, {"Loud": False, "Quiet": True, "Shared": False}))

    async def test_an_alert_is_the_same_as_in_the_webhook_but_for_its_end(self, alertmanager, session, server):
        labels = {"alertname": "Whole", "team": "ours", "path": "C:\\temp"}
        began_at = datetime.now(UTC) - timedelta(hours=1)
        alert = {
            "labels": labels, "annotations": {"summary": "says ✓"}, "startsAt": began_at.isoformat(),
            "generatorURL": "http://prometheus/graph",
        }  # fmt: skip
        async with session.post(f"{server}/api/v2/alerts", json=[alert]) as answer:
            assert answer.status == 200
        found = {one.alert.labels["alertname"]: one.alert for one in (await alertmanager.everything()).alerts}["Whole"]
        assert (found.labels, found.annotations) == (labels, {"summary": "says ✓"})
        assert abs(found.starts_at - began_at) < timedelta(milliseconds=1)
        assert (found.status, found.ends_at, found.generator_url) == ("firing", None, "http://prometheus/graph")
        assert len(found.fingerprint) == 16

    async def test_it_says_for_how_long_it_has_been_up(self, alertmanager):
        up_for = (await alertmanager.everything()).up_for
        assert timedelta() <= up_for < timedelta(minutes=10)

    async def test_a_receiver_that_is_not_configured_there_is_an_error_and_not_an_empty_list(self, session, server):
        with pytest.raises(PermanentError, match=r"no receiver 'remediatr'.*but nobody, theirs, remediator, remediator.too"):
            await AlertmanagerClient(session, server, "remediatr").everything()

    async def test_the_name_of_a_receiver_is_no_pattern(self, session, server):
        assert not (await AlertmanagerClient(session, server, "remediator.too").everything()).alerts

    async def test_ten_thousand_alerts_are_read(self, session, server):
        config = CONFIG.replace("route:\n  receiver: nobody", "route:\n  receiver: remediator")
        with alertmanager_server(config) as url:
            now = datetime.now(UTC)
            about = "what a person should know of it " * 10
            alerts = [
                {"labels": {"alertname": "Many", "n": str(number)}, "annotations": {"description": about},
                 "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat()}
                for number in range(10_000)
            ]  # fmt: skip
            for first in range(0, len(alerts), 1_000):
                async with session.post(f"{url}/api/v2/alerts", json=alerts[first : first + 1_000]) as answer:
                    assert answer.status == 200
            client = AlertmanagerClient(session, url)
            everything = await client.everything()
        assert (len(everything.alerts), everything.unreadable) == (10_000, 0)
        assert len({one.alert.labels["n"] for one in everything.alerts}) == 10_000


WELL = {
    "labels": {"alertname": "A"}, "annotations": {}, "startsAt": "2026-03-01T00:00:00Z", "fingerprint": "f", "status": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("alerts", "readable", "unreadable"),
    [
        ([WELL], 1, 0),
        ([{"labels": {"a": "b"}}, WELL | {"labels": {"alertname": 7}}, None, "text", WELL], 1, 4),
        ([WELL | {"startsAt": "yesterday"}, WELL | {"startsAt": "2026-03-01T00:00:00"}, WELL | {"startsAt": 7}], 0, 3),
    ],
)
async def test_one_listed_alert_that_is_none_does_not_drop_its_neighbours(session, alerts, readable, unreadable):
    async with answering(
        {"receivers": [{"name": "remediator"}], "status": {"uptime": "2026-03-01T00:00:00Z"}, "alerts": alerts}
    ) as url:
        everything = await AlertmanagerClient(session, url).everything()
    assert (len(everything.alerts), everything.unreadable) == (readable, unreadable)


@pytest.mark.parametrize("wrong", [{"alerts": {}}, {"status": {}}, {"status": {"uptime": "now"}}, {"receivers": "all"}])
async def test_whatever_else_answers_at_its_address_is_not_believed(session, wrong):
    well = {"receivers": [{"name": "remediator"}], "status": {"uptime": "2026-03-01T00:00:00Z"}, "alerts": []}
    async with answering(well | wrong) as url:
        with pytest.raises(PermanentError):
            await AlertmanagerClient(session, url).everything()


@asynccontextmanager
async def answering(content: dict[str, Any]) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(content[request.match_info["what"]])

    app = web.Application()
    app.router.add_get("/api/v2/{what}", answer)
    async with TestServer(app) as other:
        yield str(other.make_url("")).rstrip("/")


async def test_a_label_name_that_only_newer_versions_quote_is_compared_without_a_filter(alertmanager):
    assert not (await alertmanager.look({"alertname": "RedisDown", "service.name": "cache"})).firing


async def test_an_alertmanager_that_is_gone_is_transient(session):
    gone = AlertmanagerClient(session, f"http://127.0.0.1:{free_port()}")
    for ask in (gone.look({"alertname": "RedisDown"}), gone.everything()):
        with pytest.raises(TransientError):
            await ask
