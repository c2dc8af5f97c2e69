"""A database of the first release, with a history in it, becomes one of this release, on either dialect."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection

from remediator.ports import Store
from remediator.storage.address import Address
from remediator.storage.migrate import HEAD, config_for, revision_of, upgrade
from tests.storage.stores import postgres, sqlite

HOUR = 3_600_000_000
NOON = 1_772_366_400_000_000  # 2026-03-01, in microseconds

RUN = """
    INSERT INTO runs (id, episode_id, playbook, playbook_version, state, reason, rung, goes, target, fence, lease_owner,
                      lease_until, due_at, created_at, deadline, finished_at)
    VALUES (:id, :episode, 'api-down', 'v1', :state, 'clear', 0, :goes, 'docker:service/shop/api', 3, 'a process', :until,
            :until, :at, :until, NULL)
"""
EPISODE = """
    INSERT INTO episodes (id, key, alertname, fingerprint, labels, annotations, state, confirmed, starts_at, opened_at,
                          heard_at, ends_at)
    VALUES (:id, :key, 'APIDown', 'f', '{"alertname":"APIDown","service":"shop-api"}', '{}', :state, 1, :at, :at, :at, NULL)
"""
SERVICES = "SELECT service FROM episodes WHERE state = 'open'"
ROW = """
    INSERT INTO ledger (at, kind, run_id, episode_id, playbook, rung, target, score, who, data)
    VALUES (:at, :kind, :run, :episode, 'api-down', 0, 'docker:service/shop/api', '', '', '{"mark": 1}')
"""


@pytest.fixture(params=["sqlite", "postgres"])
def old(request, tmp_path) -> Iterator[Address]:
    """A database at the first revision: a call that was proven not to have happened and was made again, under way."""
    if request.param == "sqlite":
        yield filled(tmp_path / "store.db")
    else:
        with request.getfixturevalue("postgres_databases").database("template0") as address:
            yield filled(address)


def filled(address: Address) -> Address:
    config = config_for(address)
    command.upgrade(config, "0001")
    engine = create_engine(config.attributes["url"], **config.attributes.get("options", {}))
    with engine.begin() as connection:
        fill(connection)
    engine.dispose()
    return address


def fill(connection: Connection) -> None:
    for number, (key, state) in enumerate([("k1", "open"), ("k2", "resolved")], start=1):
        connection.execute(text(EPISODE), {"id": number, "key": key, "state": state, "at": NOON})
    keep = "INSERT INTO playbooks (version, name, source, admitted_at) VALUES ('v1', 'api-down', 'name: api-down', :at)"
    connection.execute(text(keep), {"at": NOON})
    connection.execute(text(RUN), {"id": "r1", "episode": 1, "state": "called", "goes": 2, "at": NOON, "until": NOON + HOUR})
    for kind in ("intent", "go", "observation", "go"):
        connection.execute(text(ROW), {"kind": kind, "run": "r1", "episode": 1, "at": NOON})
    connection.execute(text("INSERT INTO inbox (received_at, body) VALUES (:at, :body)"), {"at": NOON, "body": b"{}"})
    connection.execute(
        text("INSERT INTO locks (target, run_id, since) VALUES ('docker:service/shop/api', 'r1', :at)"), {"at": NOON}
    )


async def look(store: Store) -> dict[str, object]:
    """What is on record, as this release reads it."""
    timeline = await store.run(lambda ledger: ledger.runs.timeline("r1"))
    attempts = await store.run(lambda ledger: ledger._db.all("SELECT attempt FROM ledger WHERE kind = 'go' ORDER BY id"))
    run = await store.run(lambda ledger: ledger.runs.get("r1"))
    return {
        "timeline": [str(row.kind) for row in timeline],
        "attempts": [row["attempt"] for row in attempts],
        "run": (str(run.state), run.fence, run.episode.muted),
        "messages": [message.body for message in await store.run(lambda ledger: ledger.inbox.take(10))],
        "open": await store.run(lambda ledger: ledger.episodes.count_open()),
        "services": await store.run(lambda ledger: [row["service"] for row in ledger._db.all(SERVICES)]),
        "text": (await store.run(lambda ledger: ledger.runs.playbook("v1"))).source,
    }


async def test_nothing_of_the_first_release_s_history_is_lost_and_each_attempt_has_its_number(old, tmp_path):
    assert upgrade(old) == "0001"
    assert revision_of(old) == HEAD
    async with sqlite(tmp_path) if isinstance(old, Path) else postgres(old) as store:
        assert await look(store) == {
            "timeline": ["intent", "go", "observation", "go"],
            "attempts": [1, 2],
            "run": ("called", 3, ""),
            "messages": [b"{}"],
            "open": 1,
            "services": ["shop-api"],
            "text": "name: api-down",
        }


async def test_new_rows_come_after_the_old_ones(old, tmp_path):
    upgrade(old)
    async with sqlite(tmp_path) if isinstance(old, Path) else postgres(old) as store:
        await store.run(lambda ledger: ledger.switch.pause("ann", "a test", ledger.now))
        kinds = await store.run(lambda ledger: [row["kind"] for row in ledger._db.all("SELECT kind FROM ledger ORDER BY id")])
        assert kinds == ["intent", "go", "observation", "go", "switch"]
