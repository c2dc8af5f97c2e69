"""The store as the judge reads it: from its database itself, without remediator, whoever of them lives."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
from psycopg.rows import dict_row

Facts = Mapping[str, Any]
Ask = Callable[[str], Sequence[Facts]]
BACK_SECONDS_MAX = 20.0
RUNS_OF_A_ROUND_MAX = 40
ENDED = frozenset({"suggested", "refused", "cancelled", "succeeded", "escalated"})


class Books:
    """`store` is its address as remediator takes it, `ask` answers SQL that both databases understand."""

    def __init__(self, store: str, ask: Ask) -> None:
        self.store = store
        self._ask = ask

    def runs(self, services: Sequence[str]) -> Sequence[Facts]:
        """The runs about these services, among the newest."""
        rows = self._ask(
            "SELECT runs.*, episodes.labels FROM runs JOIN episodes ON episodes.id = runs.episode_id"
            f" ORDER BY runs.id DESC LIMIT {RUNS_OF_A_ROUND_MAX}"
        )
        told = [{**row, "service": json.loads(row["labels"])["service"]} for row in rows]
        return [run for run in told if run["service"] in services]

    def timeline(self, run: Facts) -> Sequence[Facts]:
        rows = self._ask(f"SELECT at, kind, data FROM ledger WHERE run_id = '{run['id']}' ORDER BY id")
        return [{**row, "data": json.loads(row["data"])} for row in rows]

    def under_way(self) -> Sequence[Facts]:
        """The runs that have not ended."""
        return self._ask("SELECT id, state, lease_owner FROM runs WHERE finished_at IS NULL")

    def held_by(self, replica: str) -> Sequence[Facts]:
        """Those that this one has leased."""
        return [run for run in self.under_way() if run["lease_owner"] == replica]

    def unread(self) -> int:
        """Messages that were answered and not expanded yet."""
        return int(self._ask("SELECT count(*) AS messages FROM inbox")[0]["messages"])

    def intents_most(self) -> int:
        """The most intents of one episode and rung."""
        per_rung = "SELECT count(*) AS intents FROM ledger WHERE kind = 'intent' GROUP BY episode_id, rung"
        return int(self._ask(f"SELECT max(intents) AS most FROM ({per_rung}) AS counted")[0]["most"])

    def story(self, services: Sequence[str]) -> str:
        lines = []
        for run in self.runs(services):
            lines.append(f"{run['id']} {run['state']} ({run['reason']}), fence {run['fence']}")
            lines += [f"  {row['at']} {row['kind']} {_short(row['data'])}" for row in self.timeline(run)]
        return "\n".join([", ".join(services), *(lines or ["  no run"])])


def sqlite_books(path: Path) -> Books:
    """It is read while remediator writes, and after it was killed."""

    def ask(query: str) -> Sequence[Facts]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    return Books(f"sqlite:///{path}", ask)


@contextmanager
def postgres_books(address: str) -> Iterator[Books]:
    """A database that is down is waited for."""
    kept: list[psycopg.Connection[dict[str, Any]]] = []

    def ask(query: str) -> Sequence[Facts]:
        ends_at = monotonic() + BACK_SECONDS_MAX
        while True:
            try:
                if not kept:
                    kept.append(psycopg.connect(address, autocommit=True, row_factory=dict_row, connect_timeout=3))
                return kept[0].execute(query.encode()).fetchall()
            except psycopg.OperationalError:
                while kept:
                    kept.pop().close()
                if monotonic() > ends_at:
                    raise
                sleep(0.05)

    try:
        yield Books(address, ask)
    finally:
        while kept:
            kept.pop().close()


def _short(data: Facts) -> str:
    told = {key: value for key, value in data.items() if key in ("outcome", "said", "happened", "seen", "reason", "state")}
    return json.dumps(told)[:300]
