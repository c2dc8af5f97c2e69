"""What is put on record is dated by the transaction, not by when it began to wait for one."""

from datetime import datetime, timedelta

import pytest

from remediator.core.playbook import Mode
from remediator.core.run import RunEvent
from remediator.core.snapshot import Policy, Score
from remediator.core.verdict import Reason
from remediator.lab.inline_store import InlineStore, Undisturbed, open_memory
from remediator.ports import LedgerKind, LedgerRow, PlaybookText
from remediator.record import Record
from remediator.telemetry import Metrics, Telemetry
from tests.builders import NOW, alert
from tests.fakes import SilentLog

MINUTE = timedelta(minutes=1)


class SetClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def elapsed(self) -> float:
        return (self.at - NOW).total_seconds()


class SlowCommits(Undisturbed):
    """Each transaction waits for a minute."""

    def __init__(self, clock: SetClock) -> None:
        self._clock = clock

    async def before(self) -> None:
        self._clock.at += MINUTE


@pytest.fixture
def connection():
    connection = open_memory()
    yield connection
    connection.close()


async def test_a_result_is_dated_by_its_transaction_however_long_it_has_waited(connection):
    clock = SetClock()
    store = InlineStore(connection, lambda: Policy(mode=Mode.AUTO), MINUTE, clock, SlowCommits(clock))
    record = Record(store, lambda *_: None, clock, Telemetry(Metrics(), SilentLog()))

    def lease(ledger):
        _, episode = ledger.episodes.hear(alert(), NOW)
        ledger.runs.admit("r1", episode, PlaybookText("api-down", "v1", ""), NOW, NOW + 30 * MINUTE)
        return ledger.runs.lease("me", clock.now(), NOW + 30 * MINUTE, 1)[0]

    run = await store.run(lease)
    row = LedgerRow(clock.now(), LedgerKind.RESULT, data={"score": Score.NEUTRAL})
    await record.end(run, RunEvent.CANCEL, Reason.RESOLVED, None, row)
    timeline = await store.run(lambda ledger: ledger.runs.timeline("r1"))
    assert {entry.at for entry in timeline} == {NOW + 2 * MINUTE}
