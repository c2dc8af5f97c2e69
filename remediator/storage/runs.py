"""Runs, their leases and their timelines. Every write names its fence: an older one raises Fenced, and writes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from remediator.core.alert import Episode
from remediator.core.run import ENDED, End, Run, RunEvent, RunState, after
from remediator.core.verdict import DecisionKind, Reason
from remediator.ports import Fenced, LedgerKind, LedgerRow, PlaybookText
from remediator.storage.codec import dump, load, micros, micros_or_none, moment, moment_or_none
from remediator.storage.database import Database
from remediator.storage.episodes import GET as EPISODE
from remediator.storage.episodes import episode_of

# `admitted_at`: when a run was last admitted with this text, to the day.
KEEP_PLAYBOOK = """
    INSERT INTO playbooks (version, name, source, admitted_at) VALUES (:version, :name, :source, :at)
    ON CONFLICT (version) DO UPDATE SET admitted_at = excluded.admitted_at
       WHERE excluded.admitted_at > playbooks.admitted_at + 86400000000
"""
PLAYBOOK = "SELECT name, version, source FROM playbooks WHERE version = :version"
# What proves that a call did not happen has the call's number.
DISPROVED = """EXISTS (
    SELECT 1 FROM ledger AS seen
     WHERE seen.run_id = gone.run_id AND seen.rung = gone.rung AND seen.attempt = gone.attempt
       AND seen.kind IN ('outcome', 'observation')
)"""
# An episode that goes on in another run goes on where it was: above the rungs that may have been sent already.
ADMIT = f"""
    INSERT INTO runs (id, episode_id, playbook, playbook_version, state, reason, rung, goes, target, fence,
                      lease_owner, lease_until, due_at, created_at, deadline, finished_at, aim)
    VALUES (:id, :episode_id, :playbook, :version, 'new', 'clear',
            coalesce((SELECT max(gone.rung) + 1 FROM ledger AS gone
                       WHERE gone.kind = 'go' AND gone.episode_id = :episode_id AND NOT {DISPROVED}), 0),
            0, '', 0, '', 0, :at, :at, :deadline, NULL, :aim)
    ON CONFLICT (episode_id) WHERE finished_at IS NULL DO NOTHING
"""  # noqa: S608 - it is a text of this module
CALLS_OF_RUNG = f"""
    SELECT count(*) AS calls, count(*) FILTER (WHERE {DISPROVED}) AS disproved
      FROM ledger AS gone WHERE gone.kind = 'go' AND gone.episode_id = :episode_id AND gone.rung = :rung
"""  # noqa: S608 - it is a text of this module
# The lease and the new fence are one statement, so that two workers cannot both take a run. While leased, a run is due
# when its lease ends (its holder died); an earlier due_at means that somebody woke it in the meantime. Workers that lease
# at the same time pass over each other's rows; MATERIALIZED, so that none is looked for, and locked, twice.
LEASE = """
    WITH due AS MATERIALIZED (
        SELECT id FROM runs WHERE due_at <= :at AND lease_until <= :at ORDER BY due_at LIMIT :limit
        /* postgresql: FOR UPDATE SKIP LOCKED */
    )
    UPDATE runs SET lease_owner = :owner, lease_until = :until, due_at = :until, fence = fence + 1
     WHERE id IN (SELECT id FROM due)
    RETURNING *
"""
RENEW = """
    UPDATE runs SET lease_until = :until, due_at = CASE WHEN due_at < lease_until THEN due_at ELSE :until END
     WHERE id = :id AND fence = :fence AND lease_owner <> '' AND finished_at IS NULL
"""
RELEASE = """
    UPDATE runs SET lease_owner = '', lease_until = 0, due_at = CASE WHEN due_at < lease_until THEN due_at ELSE :due_at END
     WHERE id = :id AND fence = :fence AND finished_at IS NULL
"""
ABANDON = "UPDATE runs SET lease_owner = '', lease_until = 0, due_at = :at WHERE lease_owner <> '' AND finished_at IS NULL"
NEXT_DUE = "SELECT min(due_at) AS due_at FROM runs WHERE due_at IS NOT NULL AND lease_owner = ''"
MOVE = """
    UPDATE runs SET state = :state, reason = :reason, rung = :rung, goes = :goes, target = :target,
                    deadline = :deadline, finished_at = :finished_at,
                    due_at = CASE WHEN CAST(:finished_at AS bigint) IS NULL THEN due_at END
     WHERE id = :id AND fence = :fence
"""
FENCE = "SELECT 1 FROM runs WHERE id = :id AND fence = :fence"
UNLOCK = "DELETE FROM locks WHERE run_id = :id RETURNING target"
WAKE_LOCKED = "UPDATE runs SET due_at = :at WHERE state = 'waiting' AND reason = 'locked' AND target = :target"
WAKE_NEXT = "UPDATE runs SET due_at = :at WHERE state = 'waiting' AND reason = 'in_turn'"
GET = "SELECT * FROM runs WHERE id = :id"
LAST_END = "SELECT state, reason, finished_at FROM runs WHERE episode_id = :episode ORDER BY id DESC LIMIT 1"
LAST_OF = "SELECT * FROM runs WHERE episode_id = :episode ORDER BY id DESC LIMIT 1"
LIST = "SELECT * FROM runs ORDER BY id DESC LIMIT :limit"
LIST_IN_STATE = "SELECT * FROM runs WHERE state = :state ORDER BY id DESC LIMIT :limit"
COUNT_IN_DOUBT = "SELECT count(*) AS in_doubt FROM runs WHERE finished_at IS NULL AND state = 'in_doubt'"
COUNT_HELD = "SELECT count(*) AS held FROM runs WHERE state = 'waiting' AND reason = 'storm'"
TIMELINE = "SELECT * FROM ledger WHERE run_id = :id ORDER BY id"
APPEND = """
    INSERT INTO ledger (at, kind, run_id, episode_id, playbook, rung, target, score, who, data, attempt)
    VALUES (:at, :kind, :run_id, :episode_id, :playbook, :rung, :target, :score, :who, :data, :attempt)
"""


class SqlRuns:
    def __init__(self, db: Database) -> None:
        self._db = db

    def admit(
        self, run: str, episode: Episode, playbook: PlaybookText, at: datetime, deadline: datetime, aim: str = ""
    ) -> None:
        self._db.once(
            playbook.version, KEEP_PLAYBOOK, version=playbook.version, name=playbook.name, source=playbook.source, at=micros(at)
        )
        self._db.append(
            ADMIT,
            id=run,
            episode_id=episode.id,
            playbook=playbook.name,
            version=playbook.version,
            at=micros(at),
            deadline=micros(deadline),
            aim=aim,
        )

    def unmatched(self, episode: Episode, at: datetime) -> None:
        refused = {"decision": DecisionKind.REFUSE, "reason": Reason.NO_PLAYBOOK, "seen": "no playbook matches these labels"}
        append_apart(self._db, LedgerRow(at, LedgerKind.DECISION, data=refused), episode_id=episode.id)

    def playbook(self, version: str) -> PlaybookText:
        row = self._db.one(PLAYBOOK, version=version)
        return PlaybookText(row["name"], row["version"], row["source"])

    def lease(self, owner: str, at: datetime, until: datetime, limit: int) -> Sequence[Run]:
        rows = self._db.all(LEASE, owner=owner, at=micros(at), until=micros(until), limit=limit)
        return [self._run_of(row) for row in rows]

    def renew(self, runs: Sequence[Run], until: datetime) -> Sequence[Run]:
        left = [run for run in runs if not self._db.run(RENEW, id=run.id, fence=run.fence, until=micros(until))]
        return [run for run in left if self._db.one(FENCE, id=run.id, fence=run.fence) is None]

    def release(self, run: Run, due_at: datetime) -> None:
        self._db.run(RELEASE, id=run.id, fence=run.fence, due_at=micros(due_at))

    def abandon_all(self, at: datetime) -> int:
        return self._db.run(ABANDON, at=micros(at))

    def next_due(self) -> datetime | None:
        return moment_or_none(self._db.one(NEXT_DUE)["due_at"])

    def move(self, run: Run, event: RunEvent, at: datetime, *rows: LedgerRow, reason: Reason = Reason.CLEAR) -> Run:
        state = after(run.state, event)
        ended = state in ENDED
        climbs = event is RunEvent.CLIMB
        moved = replace(
            run,
            state=state,
            reason=reason,
            rung=run.rung + climbs,
            goes=0 if climbs else run.goes + (event is RunEvent.GO),
            finished_at=at if ended else None,
        )
        self._write(moved)
        self._append(run, rows, self._attempt(run, event))
        if ended:
            for unlocked in self._db.all(UNLOCK, id=run.id):
                self._db.run(WAKE_LOCKED, target=unlocked["target"], at=micros(at))
                self._db.later(WAKE_NEXT, at=micros(at))
        return moved

    def append(self, run: Run, *rows: LedgerRow) -> None:
        self._append(run, rows)

    def _append(self, run: Run, rows: Sequence[LedgerRow], attempt: int = 0) -> None:
        if rows and self._db.one(FENCE, id=run.id, fence=run.fence) is None:
            raise Fenced(f"run {run.id} was taken over")
        for row in rows:
            append_to(self._db, run, row, attempt)

    def _attempt(self, run: Run, event: RunEvent) -> int:
        """The number of a call of this rung in its episode: the same twice, and the second is not written (promise S2)."""
        if event not in (RunEvent.GO, RunEvent.DID_NOT_HAPPEN):
            return 0
        of_rung = self._db.one(CALLS_OF_RUNG, episode_id=run.episode.id, rung=run.rung)
        return int(of_rung["disproved"]) + 1 if event is RunEvent.GO else int(of_rung["calls"])

    def get(self, run: str) -> Run | None:
        row = self._db.one(GET, id=run)
        return None if row is None else self._run_of(row)

    def last_end(self, episode: int) -> End | None:
        row = self._db.one(LAST_END, episode=episode)
        if row is None or row["finished_at"] is None:
            return None
        return End(RunState(row["state"]), Reason(row["reason"]), moment(row["finished_at"]))

    def last_of(self, episode: int) -> Run | None:
        row = self._db.one(LAST_OF, episode=episode)
        return None if row is None else self._run_of(row)

    def list(self, limit: int, state: str = "") -> Sequence[Run]:
        rows = self._db.all(LIST_IN_STATE, limit=limit, state=state) if state else self._db.all(LIST, limit=limit)
        return [self._run_of(row) for row in rows]

    def count_in_doubt(self) -> int:
        return int(self._db.one(COUNT_IN_DOUBT)["in_doubt"])

    def count_held(self) -> int:
        return int(self._db.one(COUNT_HELD)["held"])

    def timeline(self, run: str) -> Sequence[LedgerRow]:
        return [_row_of(row) for row in self._db.all(TIMELINE, id=run)]

    def _write(self, run: Run) -> None:
        written = self._db.run(
            MOVE,
            id=run.id,
            fence=run.fence,
            state=run.state,
            reason=run.reason,
            rung=run.rung,
            goes=run.goes,
            target=run.target,
            deadline=micros(run.deadline),
            finished_at=micros_or_none(run.finished_at),
        )
        if not written:
            raise Fenced(f"run {run.id} was taken over")

    def _run_of(self, row: Any) -> Run:
        return Run(
            id=row["id"],
            episode=episode_of(self._db.one(EPISODE, id=row["episode_id"])),
            playbook=row["playbook"],
            playbook_version=row["playbook_version"],
            state=RunState(row["state"]),
            rung=row["rung"],
            fence=row["fence"],
            created_at=moment(row["created_at"]),
            deadline=moment(row["deadline"]),
            reason=Reason(row["reason"]),
            target=row["target"],
            goes=row["goes"],
            lease_until=moment(row["lease_until"]) if row["lease_owner"] else None,
            finished_at=moment_or_none(row["finished_at"]),
        )


def append_to(db: Database, run: Run, row: LedgerRow, attempt: int = 0) -> None:
    """A row of a run's timeline, whoever writes it. A worker that holds the run writes through `SqlRuns.append`."""
    db.append(
        APPEND,
        at=micros(row.at),
        kind=row.kind,
        run_id=run.id,
        episode_id=run.episode.id,
        playbook=run.playbook,
        rung=run.rung,
        target=row.target or run.target,
        score=_score_of(row),
        who=row.who,
        data=dump(row.data),
        attempt=attempt,
    )


def append_apart(db: Database, row: LedgerRow, *, episode_id: int = 0, playbook: str = "") -> None:
    """A row of the ledger that belongs to no run."""
    db.append(
        APPEND,
        at=micros(row.at),
        kind=row.kind,
        run_id="",
        episode_id=episode_id,
        playbook=playbook,
        rung=0,
        target=row.target,
        score=_score_of(row),
        who=row.who,
        data=dump(row.data),
        attempt=0,
    )


def _score_of(row: LedgerRow) -> str:
    return str(row.data.get("score", "")) if row.kind is LedgerKind.RESULT else ""


def _row_of(row: Any) -> LedgerRow:
    return LedgerRow(
        at=moment(row["at"]),
        kind=LedgerKind(row["kind"]),
        run=row["run_id"],
        rung=row["rung"],
        target=row["target"],
        who=row["who"],
        data=load(row["data"]),
    )
