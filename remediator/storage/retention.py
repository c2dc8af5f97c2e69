"""What is over is forgotten once nobody can ask for it any more: an episode with its runs and all that is told of them.

Guards look back in two ways. By time, at most 30 days (the longest window that a limit can have), so nothing younger is
touched. And by number: a breaker counts the newest results of a target and of a playbook, and their runs, however old
they are. What is among these keeps what breakers look at, and loses the rest: evidence, decisions, messages. The switch,
a storm that goes on, resets of breakers and whatever is open stay. So guards answer the same before and after (promises
S3 and S5).

One call looks at a few dozen episodes, oldest first, and says where the next one goes on: no commit waits long for it.
"""

from datetime import datetime
from typing import Any

from remediator.ports import Swept
from remediator.storage.breakers import OPENINGS_REMEMBERED, RESULTS_REMEMBERED
from remediator.storage.codec import micros, moment
from remediator.storage.database import Database
from remediator.storage.episodes import EPISODES

EPISODES_AT_ONCE = 40
OTHERS_AT_ONCE = 100
A_DAY_MICROS = 86_400_000_000
"""How exactly it is known when a playbook's text was last used."""

OVER = """
    SELECT id, heard_at FROM episodes
     WHERE state <> 'open' AND heard_at < :before AND (heard_at, id) > (:heard_at, :id)
     ORDER BY heard_at, id LIMIT :limit
"""
RUNS = "SELECT id, target, playbook, created_at, finished_at FROM runs WHERE episode_id = :episode"
RESULTS = "SELECT id, target, playbook FROM ledger WHERE run_id = :run AND kind = 'result'"
# Each of the next four counts no further than `most`.
LATER_RUNS = """
    SELECT count(*) AS later FROM (SELECT 1 FROM runs
     WHERE target = :scope AND target <> '' AND created_at > :created_at LIMIT :most) AS newest
"""
LATER_RUNS_OF_PLAYBOOK = """
    SELECT count(*) AS later FROM (SELECT 1 FROM runs
     WHERE playbook = :scope AND target <> '' AND created_at > :created_at LIMIT :most) AS newest
"""
LATER_ON_TARGET = """
    SELECT count(*) AS later FROM (SELECT 1 FROM ledger
     WHERE kind = 'result' AND target = :scope AND id > :id LIMIT :most) AS newest
"""
LATER_OF_PLAYBOOK = """
    SELECT count(*) AS later FROM (SELECT 1 FROM ledger
     WHERE kind = 'result' AND playbook = :scope AND id > :id LIMIT :most) AS newest
"""
# What an expired episode that is heard again asks is kept with what breakers ask: which rungs were sent.
THIN_OUT = "DELETE FROM ledger WHERE run_id = :run AND kind NOT IN ('result', 'go')"
FORGET_TIMELINE = "DELETE FROM ledger WHERE run_id = :run"
FORGET_RUN = "DELETE FROM runs WHERE id = :run"
FORGET_APART = "DELETE FROM ledger WHERE run_id = '' AND episode_id = :episode"
FORGET_EPISODE = "DELETE FROM episodes WHERE id = :episode"

# The newest one of its kind may still hold.
FORGET_SWITCHES = """
    DELETE FROM ledger WHERE kind = 'switch' AND at < :before
       AND id < (SELECT max(id) FROM ledger WHERE kind = 'switch')
"""
FORGET_STORMS = """
    DELETE FROM ledger WHERE kind = 'storm' AND at < :before
       AND id < (SELECT max(id) FROM ledger WHERE kind = 'storm')
"""
FORGET_TOLD = """
    DELETE FROM outbox WHERE key IN (SELECT key FROM outbox
                                      WHERE due_at IS NULL AND put_at < :before ORDER BY put_at LIMIT :limit)
"""
# What was set aside is what is left over of the oldest.
FORGET_SET_ASIDE = """
    DELETE FROM inbox
     WHERE id IN (SELECT id FROM (SELECT id, set_aside, received_at FROM inbox ORDER BY id LIMIT :limit) AS oldest
                   WHERE set_aside = 1 AND received_at < :before)
"""
FORGET_PLAYBOOKS = """
    DELETE FROM playbooks WHERE admitted_at < :before
       AND NOT EXISTS (SELECT 1 FROM runs WHERE finished_at IS NULL AND playbook_version = playbooks.version)
"""


class SqlRetention:
    def __init__(self, db: Database) -> None:
        self._db = db

    def sweep(self, before: datetime, after: tuple[datetime, int] | None = None) -> Swept:
        if not self._db.try_lock(EPISODES):  # another process hears alerts, or sweeps
            return Swept(0, after or (moment(0), 0))
        heard_at, last = (micros(after[0]), after[1]) if after else (0, 0)
        rows = 0 if heard_at else self._forget_what_is_little(micros(before))
        found = self._db.all(OVER, before=micros(before), heard_at=heard_at, id=last, limit=EPISODES_AT_ONCE)
        if found:
            heard_at, last = found[-1]["heard_at"], found[-1]["id"]
        told = self._db.run(FORGET_TOLD, before=micros(before), limit=OTHERS_AT_ONCE)
        rows += told + sum(self._forget(row["id"], before) for row in found)
        is_all = len(found) < EPISODES_AT_ONCE and told < OTHERS_AT_ONCE
        return Swept(rows, None if is_all else (moment(heard_at), last))

    def _forget(self, episode: int, before: datetime) -> int:
        """Of an episode that is over, whatever nobody can ask for any more; how many rows that was."""
        runs = self._db.all(RUNS, episode=episode)
        if any(run["finished_at"] is None or run["finished_at"] >= micros(before) for run in runs):
            return 0
        rows, kept = self._db.run(FORGET_APART, episode=episode), False
        for run in runs:
            if self._counts(run):
                rows += self._db.run(THIN_OUT, run=run["id"])
                kept = True
            else:
                rows += self._db.run(FORGET_TIMELINE, run=run["id"]) + self._db.run(FORGET_RUN, run=run["id"])
        return rows if kept else rows + self._db.run(FORGET_EPISODE, episode=episode)

    def _counts(self, run: Any) -> bool:
        """Whether a breaker may still look at this run: it is among the newest of its target or of its playbook."""
        if not run["target"]:
            return False
        scopes = ((LATER_RUNS, run["target"]), (LATER_RUNS_OF_PLAYBOOK, run["playbook"]))
        if any(self._is_among(OPENINGS_REMEMBERED, sql, scope, created_at=run["created_at"]) for sql, scope in scopes):
            return True
        return any(
            self._is_among(RESULTS_REMEMBERED, LATER_ON_TARGET, result["target"], id=result["id"])
            or self._is_among(RESULTS_REMEMBERED, LATER_OF_PLAYBOOK, result["playbook"], id=result["id"])
            for result in self._db.all(RESULTS, run=run["id"])
        )

    def _is_among(self, newest: int, sql: str, scope: str, **position: int) -> bool:
        return int(self._db.one(sql, most=newest, scope=scope, **position)["later"]) < newest

    def _forget_what_is_little(self, before: int) -> int:
        return (
            self._db.run(FORGET_SWITCHES, before=before)
            + self._db.run(FORGET_STORMS, before=before)
            + self._db.run(FORGET_SET_ASIDE, before=before, limit=OTHERS_AT_ONCE)
            + self._db.run(FORGET_PLAYBOOKS, before=before - A_DAY_MICROS)
        )
