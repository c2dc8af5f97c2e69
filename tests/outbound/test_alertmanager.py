"""Alertmanager's view of what fires, against a real Alertmanager."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientSession

from remediator.outbound.alertmanager import AlertmanagerClient
from remediator.ports import TransientError
from tests.servers import alertmanager_server, free_port

CONFIG = """
route: {receiver: nobody}
receivers: [{name: nobody}]
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


async def test_silenced_and_inhibited_alerts_are_still_firing(alertmanager, session, server):
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "alertname", "value": "Silenced", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(), "createdBy": "test", "comment": "test",
    }  # fmt: skip
    async with session.post(f"{server}/api/v2/silences", json=silence) as answer:
        assert answer.status == 200
    for name in ("Silenced", "HostDown", "Inhibited"):
        await fire(session, server, {"alertname": name})
        assert (await alertmanager.look({"alertname": name})).firing, name


async def test_a_label_name_that_only_newer_versions_quote_is_compared_without_a_filter(alertmanager):
    assert not (await alertmanager.look({"alertname": "RedisDown", "service.name": "cache"})).firing


async def test_an_alertmanager_that_is_gone_is_transient(session):
    with pytest.raises(TransientError):
        await AlertmanagerClient(session, f"http://127.0.0.1:{free_port()}").look({"alertname": "RedisDown"})
