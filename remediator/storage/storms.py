"""Storms of alerts: rows of the ledger that say when one began and when it was over.

A storm is counted by what playbooks select (`runs.aim`), before any platform is asked: 10,000 alerts must not become
10,000 questions to an engine. It begins above one number of distinct aims within the window and ends at a much lower one,
so that it does not flicker. While it blows, new runs are held by two statements for all of them.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from remediator.core.snapshot import Policy, Storm
from remediator.core.verdict import DecisionKind, Reason
from remediator.ports import LedgerKind, LedgerRow
from remediator.storage.codec import dump, load, micros, moment
from remediator.storage.database import Database
from remediator.storage.runs import append_apart

LAST = "SELECT at, data FROM ledger WHERE kind = 'storm' ORDER BY id DESC LIMIT 1"
# Counted no further than the answer needs: it is asked with every batch of alerts, and in a storm there are thousands.
AIMS = """
    SELECT count(*) AS aims
      FROM (SELECT DISTINCT aim
              FROM (SELECT aim FROM runs
                     WHERE created_at > :since AND aim <> '' ORDER BY created_at DESC LIMIT :newest) AS newest
             LIMIT :most) AS lately
"""
AIMS_MAX = RUNS_MAX = 1_000_000
NEWEST_FOR_EACH = 10
EXPLAIN = """
    INSERT INTO ledger (at, kind, run_id, episode_id, playbook, rung, target, score, who, data, attempt)
    SELECT :at, 'decision', id, episode_id, playbook, rung, '', '', '', :data, 0
      FROM runs WHERE state = 'new' AND lease_owner = ''
"""
# They are looked at again when the storm is over or, if it lasts, at their deadline.
HOLD = "UPDATE runs SET state = 'waiting', reason = 'storm', due_at = deadline WHERE state = 'new' AND lease_owner = ''"
WAKE = "UPDATE runs SET due_at = :at WHERE state = 'waiting' AND reason = 'storm'"


class SqlStorms:
    def __init__(self, db: Database, policy: Callable[[], Policy]) -> None:
        self._db = db
        self._policy = policy

    def current(self) -> Storm | None:
        row = self._db.one(LAST)
        if row is None:
            return None
        said = load(row["data"])
        return Storm(moment(row["at"]), said["targets"]) if said["on"] else None

    def look(self, at: datetime) -> Storm | None:
        limits = self._policy().storm
        blowing = self.current()
        threshold = limits.targets if blowing is None else limits.calm
        is_above = self._aims(at - limits.window, threshold + 1) > threshold
        changed: Storm | None = None
        if blowing is None and is_above:
            blowing = changed = Storm(at, self._aims(at - limits.window, AIMS_MAX))
            self._put_on_record(blowing, at, on=True)
        elif blowing is not None and not is_above:
            changed, blowing = replace(blowing, over_at=at), None
            self._put_on_record(changed, at, on=False)
            self._db.run(WAKE, at=micros(at))
        if blowing is not None:
            self._hold(blowing, at)
        return changed

    def _aims(self, since: datetime, most: int) -> int:
        """Distinct aims since then, counted up to `most`."""
        for newest in (NEWEST_FOR_EACH * most, RUNS_MAX):  # among the newest there are most often enough
            aims = int(self._db.one(AIMS, since=self._db.reaching_back(micros(since)), newest=newest, most=most)["aims"])
            if aims >= most:
                break
        return aims

    def _put_on_record(self, storm: Storm, at: datetime, *, on: bool) -> None:
        append_apart(self._db, LedgerRow(at, LedgerKind.STORM, data={"on": on, "targets": storm.targets}))

    def _hold(self, storm: Storm, at: datetime) -> None:
        """The other guards are not asked: what they would look at is just what must not be asked ten thousand times."""
        verdicts = {"storm": ["wait", str(storm)]}
        decision = {"decision": DecisionKind.WAIT, "reason": Reason.STORM, "seen": str(storm), "verdicts": verdicts}
        self._db.later(EXPLAIN, at=micros(at), data=dump(decision))
        self._db.later(HOLD)
