"""What is ill, or was until lately, of what a service needs, and who else is being repaired for it."""

from collections.abc import Callable, Sequence
from datetime import datetime

from remediator.core.dependencies import AFTERMATH
from remediator.core.matching import all_match
from remediator.core.snapshot import Candidate, Cause, Policy
from remediator.storage.codec import dump, load, micros, moment
from remediator.storage.database import Database

# Names travel as the keys of one JSON object, which both dialects take apart. LIMIT tells PostgreSQL how few they are: it
# would go through all that is open otherwise. Of what is over, the newest are enough.
OF_SERVICES = """
    SELECT id, service, labels, opened_at, NULL AS over_at FROM episodes
     WHERE state = 'open'
       AND service IN (SELECT key FROM json_each(:services /* postgresql: ::json */) LIMIT :count)
    UNION ALL
    SELECT * FROM (SELECT id, service, labels, opened_at, heard_at AS over_at FROM episodes
                    WHERE state = 'resolved' AND heard_at > :since
                      AND service IN (SELECT key FROM json_each(:services /* postgresql: ::json */) LIMIT :count)
                    ORDER BY heard_at DESC LIMIT 200) AS over
     ORDER BY opened_at, id
"""
# Nothing is ahead of a run that has a target already: two of them would wait for each other.
AT_WORK_ON = """
    SELECT DISTINCT service FROM episodes
     WHERE id IN (SELECT episode_id FROM runs WHERE id IN (SELECT run_id FROM locks))
       AND service <> '' AND NOT EXISTS (SELECT 1 FROM locks WHERE run_id = :run)
"""


class SqlDependencies:
    """Asks nothing where nobody said who needs whom."""

    def __init__(self, db: Database, policy: Callable[[], Policy]) -> None:
        self._db = db
        self._policy = policy

    def causes(self, candidate: Candidate) -> tuple[Cause, ...]:
        """The causes that are open, and those that were until lately; the oldest first."""
        known = self._policy().dependencies
        needed = known.needed_by(candidate.services)
        if not needed:
            return ()
        names, since = dump(dict.fromkeys(sorted(needed))), self._db.reaching_back(micros(self._db.now() - AFTERMATH))
        rows = self._db.all(OF_SERVICES, services=names, count=len(needed), since=since)
        found = [(row, load(row["labels"])) for row in rows if row["id"] != candidate.episode.id]
        return tuple(
            Cause(row["service"], labels.get("alertname", ""), moment(row["opened_at"]), self._steady(row["over_at"]))
            for row, labels in found
            if all_match(known.causes, labels)
        )

    def ahead_of(self, candidate: Candidate, causes: Sequence[Cause]) -> tuple[str, ...]:
        """Services that other runs are at work on: needed ones, and those that need the same one of `causes` that is over."""
        known = self._policy().dependencies
        needed = known.needed_by(candidate.services)
        if not needed:
            return ()
        over = {cause.service for cause in causes if cause.over_at is not None}
        at_work_on = [row["service"] for row in self._db.all(AT_WORK_ON, run=candidate.run)]
        return tuple(sorted(each for each in at_work_on if each in needed or known.needed_by([each]) & over))

    def _steady(self, over_at: int | None) -> datetime | None:
        return None if over_at is None else moment(self._db.steady(over_at))
