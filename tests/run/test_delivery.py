"""The outbox's deliveries: repeated until they arrive, dropped loudly, and never in the way of a run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from remediator.clock import SystemClock
from remediator.core.snapshot import Policy
from remediator.outbound.delivery import ATTEMPTS_MAX, BACKOFF_SECONDS, Delivery
from remediator.ports import Channel, Message, PermanentError, TransientError
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import SqliteStore
from remediator.telemetry import Metrics, Telemetry
from tests.fakes import KeptMessages, SettableClock, SilentLog
from tests.waiting import eventually

MESSAGE = Message("escalation:r1", Channel.ESCALATION, {"severity": "critical", "text": "first"})


class Recipient(KeptMessages):
    """Answers with the errors given, in order, and then takes everything."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def deliver(self, message: Message) -> str:
        receipt = await super().deliver(message)
        if self.errors:
            raise self.errors.pop(0)
        return receipt

    @property
    def texts(self) -> list[str]:
        return [message.payload["text"] for message in self.messages]


class Post:
    """A delivery with its store, and a clock that a test sets."""

    def __init__(self, store: SqliteStore, recipient: Recipient) -> None:
        self.store, self.clock, self.log, self.metrics = store, SettableClock(), SilentLog(), Metrics()
        told = {Channel.ESCALATION: recipient}
        self.delivery = Delivery(store, told, lambda low, high: 1.0, self.clock, Telemetry(self.metrics, self.log))

    async def put(self, message: Message = MESSAGE) -> None:
        await self.store.run(lambda ledger: ledger.outbox.put(message, self.clock.now()))

    async def deliver(self, after: timedelta = timedelta()) -> None:
        self.clock.shift += after
        await self.delivery.deliver_due()

    async def due(self) -> int:
        now = self.clock.now() + timedelta(days=365)
        return len(await self.store.run(lambda ledger: ledger.outbox.due(now, 100)))

    def count(self, outcome: str) -> float:
        return self.metrics.registry.get_sample_value("remediator_notifications_total", {"outcome": outcome}) or 0


@asynccontextmanager
async def post(directory, recipient: Recipient) -> AsyncIterator[Post]:
    store = SqliteStore(directory / "store.db", Policy, timedelta(seconds=10), SystemClock())
    upgrade(directory / "store.db")
    yield Post(store, recipient)
    await store.close()


async def test_what_was_delivered_is_not_delivered_again(tmp_path):
    async with post(tmp_path, recipient := Recipient()) as p:
        await p.put()
        await p.deliver()
        await p.deliver(timedelta(days=1))
        assert recipient.texts == ["first"]
        assert p.count("delivered") == 1


async def test_a_passing_failure_is_tried_again_after_twice_the_time_each_time(tmp_path):
    async with post(tmp_path, recipient := Recipient(*[TransientError("503")] * 3)) as p:
        await p.put()
        await p.deliver()
        for seconds in (2, 4, 8):
            await p.deliver(timedelta(seconds=seconds - 0.5))
            before = len(recipient.messages)
            await p.deliver(timedelta(seconds=0.6))
            assert len(recipient.messages) == before + 1
        assert await p.due() == 0


async def test_the_recipient_s_own_wish_comes_before_the_backoff(tmp_path):
    async with post(tmp_path, recipient := Recipient(TransientError("429", retry_after=60))) as p:
        await p.put()
        await p.deliver()
        await p.deliver(timedelta(seconds=59))
        assert len(recipient.messages) == 1
        await p.deliver(timedelta(seconds=1.1))
        assert len(recipient.messages) == 2


@pytest.mark.parametrize("asked", [365 * 86400, 99_999_999_999_999, float("9" * 400)], ids=["a year", "too much", "infinity"])
async def test_but_no_recipient_may_park_a_message_for_longer_than_the_longest_backoff(tmp_path, asked):
    async with post(tmp_path, recipient := Recipient(TransientError("429", retry_after=asked))) as p:
        await p.put()
        await p.deliver()
        await p.deliver(timedelta(seconds=BACKOFF_SECONDS[1] + 1))
        assert recipient.texts == ["first", "first"]


async def test_a_lasting_failure_is_dropped_counted_and_logged(tmp_path):
    async with post(tmp_path, Recipient(PermanentError("401"))) as p:
        await p.put()
        await p.deliver()
        assert await p.due() == 0
        assert p.count("failed") == 1
        assert "message.failed" in p.log.names()


async def test_a_recipient_that_never_answers_well_is_given_up_in_the_end(tmp_path):
    async with post(tmp_path, recipient := Recipient(*[TransientError("503")] * 2 * ATTEMPTS_MAX)) as p:
        await p.put()
        for _ in range(ATTEMPTS_MAX):
            await p.deliver(timedelta(minutes=15))
        assert len(recipient.messages) == ATTEMPTS_MAX
        assert await p.due() == 0


async def test_news_after_a_drop_are_tried_anew(tmp_path):
    async with post(tmp_path, recipient := Recipient(*[TransientError("503")] * (ATTEMPTS_MAX + 1))) as p:
        await p.put()
        for _ in range(ATTEMPTS_MAX):
            await p.deliver(timedelta(minutes=15))
        await p.put(Message(MESSAGE.key, MESSAGE.channel, {"severity": "critical", "text": "second"}))
        await p.deliver()
        await p.deliver(timedelta(minutes=15))
        assert recipient.texts[-2:] == ["second", "second"]
        assert p.count("delivered") == 1


async def test_a_channel_that_nobody_configured_is_dropped_without_a_word(tmp_path):
    async with post(tmp_path, Recipient()) as p:
        await p.put(Message("annotation:r1", Channel.ANNOTATION, {}))
        await p.deliver()
        assert await p.due() == 0
        assert p.log.events == []


async def test_a_payload_that_is_replaced_while_the_old_one_is_on_its_way_is_delivered_too(tmp_path):
    class Slow(Recipient):
        async def deliver(self, message: Message) -> str:
            if not self.messages:
                await p.put(Message(MESSAGE.key, MESSAGE.channel, {"severity": "critical", "text": "second"}))
            return await super().deliver(message)

    async with post(tmp_path, recipient := Slow()) as p:
        await p.put()
        await p.deliver()
        await p.deliver(timedelta(seconds=1))
        assert recipient.texts == ["first", "second"]


async def test_the_next_delivery_knows_the_receipt_of_the_last_and_that_there_was_an_attempt(tmp_path):
    async with post(tmp_path, recipient := Recipient()) as p:
        await p.put()
        await p.deliver()
        await p.put()
        await p.deliver()
        assert [(message.attempts, message.receipt) for message in recipient.messages] == [(1, ""), (2, "1")]


async def test_an_attempt_is_on_record_before_it_is_made(tmp_path):
    class Dying(Recipient):
        async def deliver(self, message: Message) -> str:
            raise asyncio.CancelledError

    async with post(tmp_path, Dying()) as p:
        await p.put()
        await asyncio.gather(asyncio.create_task(p.deliver()), return_exceptions=True)
        later = p.clock.now() + timedelta(minutes=2)
        (message,) = await p.store.run(lambda ledger: ledger.outbox.due(later, 1))
        assert message.attempts == 1


async def test_an_announcer_with_a_bug_delays_its_own_message_and_stops_no_other(tmp_path):
    class Buggy(Recipient):
        async def deliver(self, message: Message) -> str:
            if message.key == "escalation:bad":
                raise ZeroDivisionError
            return await super().deliver(message)

    async with post(tmp_path, recipient := Buggy()) as p:
        await p.put(Message("escalation:bad", Channel.ESCALATION, {"text": "bad"}))
        await p.put()
        await p.deliver()
        assert recipient.texts == ["first"]
        assert await p.due() == 1


async def test_a_message_that_breaks_what_surrounds_its_delivery_stops_no_other(tmp_path):
    class Receipts(Recipient):
        """Answers with a receipt that no store can keep."""

        async def deliver(self, message: Message) -> str:
            await super().deliver(message)
            return "\ud800" if message.key == "escalation:bad" else ""

    async with post(tmp_path, recipient := Receipts()) as p:
        await p.put(Message("escalation:bad", Channel.ESCALATION, {"text": "bad"}))
        await p.put()
        await p.deliver()
        assert sorted(recipient.texts) == ["bad", "first"]
        assert p.count("delivered") == 1
        assert "message.broke_down" in p.log.names()
        assert await p.due() == 1


async def test_a_row_that_cannot_be_read_does_not_end_the_loop(tmp_path):
    async with post(tmp_path, recipient := Recipient()) as p:
        await p.put()
        await p.store.run(lambda ledger: ledger.outbox._db.run("UPDATE outbox SET payload = 'nonsense'"))
        loop = asyncio.create_task(p.delivery.run())
        await eventually(lambda: "delivery.broke_down" in p.log.names())
        await p.store.run(lambda ledger: ledger.outbox._db.run('UPDATE outbox SET payload = \'{"text": "mended"}\''))
        await eventually(lambda: recipient.texts == ["mended"])
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
