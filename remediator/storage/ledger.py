"""The parts of the store over one connection, wired: what a transaction's work sees."""

from collections.abc import Callable
from datetime import datetime, timedelta

from remediator.core.snapshot import Policy
from remediator.storage.approvals import SqlApprovals
from remediator.storage.breakers import SqlBreakers
from remediator.storage.claims import SqlClaims
from remediator.storage.database import Database
from remediator.storage.dependencies import SqlDependencies
from remediator.storage.episodes import SqlEpisodes
from remediator.storage.heartbeats import SqlHeartbeats
from remediator.storage.inbox import SqlInbox
from remediator.storage.outbox import SqlOutbox
from remediator.storage.releases import SqlReleases
from remediator.storage.retention import SqlRetention
from remediator.storage.runs import SqlRuns
from remediator.storage.storms import SqlStorms
from remediator.storage.switch import SqlSwitch


class SqlLedger:
    """Implements `ports.Ledger`."""

    def __init__(self, db: Database, policy: Callable[[], Policy], confirm_after: timedelta) -> None:
        self._db = db
        self.inbox = SqlInbox(db)
        self.episodes = SqlEpisodes(db, confirm_after)
        self.runs = SqlRuns(db)
        self.releases = SqlReleases(db)
        self.approvals = SqlApprovals(db, self.runs)
        self.breakers = SqlBreakers(db)
        self.storms = SqlStorms(db, policy)
        self.heartbeats = SqlHeartbeats(db)
        self.dependencies = SqlDependencies(db, policy)
        self.claims = SqlClaims(db, self, policy)
        self.switch = SqlSwitch(db)
        self.outbox = SqlOutbox(db)
        self.retention = SqlRetention(db)

    @property
    def now(self) -> datetime:
        return self._db.now()
