"""The parts of the store over one connection, wired: what a transaction's work sees."""

from collections.abc import Callable
from datetime import timedelta

from remediator.core.snapshot import Policy
from remediator.storage.claims import SqlClaims
from remediator.storage.database import Database
from remediator.storage.episodes import SqlEpisodes
from remediator.storage.inbox import SqlInbox
from remediator.storage.outbox import SqlOutbox
from remediator.storage.releases import SqlReleases
from remediator.storage.runs import SqlRuns
from remediator.storage.switch import SqlSwitch


class SqlLedger:
    """Implements `ports.Ledger`."""

    def __init__(self, db: Database, policy: Callable[[], Policy], confirm_after: timedelta) -> None:
        self.inbox = SqlInbox(db)
        self.episodes = SqlEpisodes(db, confirm_after)
        self.runs = SqlRuns(db)
        self.releases = SqlReleases(db)
        self.claims = SqlClaims(db, self.runs, self.episodes, self.releases, policy)
        self.switch = SqlSwitch(db)
        self.outbox = SqlOutbox(db)
