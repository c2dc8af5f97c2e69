"""What the store asks stays cheap however much is on record: SQLite says for every statement how it would go about it."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

import pytest

from remediator import storage
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import connect


def _statements() -> Mapping[str, str]:
    """Every statement that both stores share, by its name: the capital constants of its modules."""
    names = [found.name for found in iter_modules(storage.__path__) if not found.name.startswith("postgres")]
    modules = [import_module(f"remediator.storage.{name}") for name in names]
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)\b", value)
    }


STATEMENTS = _statements()
OPEN_NOW = ("episodes_open", "runs_live")
"""Indexes over what is open now: it is over one day, and does not grow with what has been."""
MAY_GO_THROUGH: Mapping[str, Sequence[str]] = {
    "runs.RENEW": OPEN_NOW,
    "runs.ABANDON": OPEN_NOW,
    "runs.LIST": ["runs"],  # by its key, from the newest, to its limit
    "episodes.COUNT_OPEN": OPEN_NOW,
    "episodes.ALL_OPEN": OPEN_NOW,
    "episodes.UNMUTE_ALL": OPEN_NOW,
    "claims.LAST_SWITCH": ["ledger_switch"],
    "claims.INTENTS_OF_ALL": ["ledger_intents"],  # to its limit
    "storms.LAST": ["ledger_storm"],
    "inbox.OLDEST": ["inbox"],
    "inbox.TAKE": ["inbox"],  # by its key, from the oldest, to its limit
    "releases.ALL": ["releases"],  # at most KEPT for a workload
    "retention.FORGET_SET_ASIDE": ["inbox"],
    "retention.FORGET_PLAYBOOKS": ["playbooks", "runs_live"],  # as many as there were reloads lately
}
NEVER_SORTED = ("runs.LIST", "runs.LIST_IN_STATE", "retention.OVER")


@pytest.fixture(scope="module")
def schema(tmp_path_factory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("schema") / "store.db"
    upgrade(path)
    connection = connect(path)
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_goes_through_what_grows(schema, name):
    """Every named statement of the store, whoever adds one: what it costs must not depend on how much is on record."""
    sql = STATEMENTS[name]
    values = dict.fromkeys(re.findall(r":(\w+)", sql), 0)
    plan = [row["detail"] for row in schema.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    growing = [step for step in plan if re.match(r"SCAN (runs|ledger|episodes|outbox|releases|inbox|playbooks)\b", step)]
    allowed = MAY_GO_THROUGH.get(name, ())
    assert [step for step in growing if not any(index in step for index in allowed)] == [], plan
    if name in NEVER_SORTED:
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
