"""One case, from its start to its end: the real worker, main path, guards and store, on virtual time."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, TypeVar

from remediator.asking import Answer, Objection, take
from remediator.core.playbook import Mode, PlaybookIndex
from remediator.core.run import RunState
from remediator.core.snapshot import Found
from remediator.core.target import Selector, Workload
from remediator.ingress.expand import Admission
from remediator.lab.inline_store import InlineStore, open_memory
from remediator.lab.playbook_tests import story
from remediator.lab.playbook_tests.case import Case, Change, Deed, Event, Line, Verb
from remediator.lab.playbook_tests.history import put_on_record, releases_on_record
from remediator.lab.playbook_tests.neighbours import alertmanager, neighbours
from remediator.lab.playbook_tests.script import Script
from remediator.lab.virtual_time import VirtualClock, VirtualLoop
from remediator.ports import Channel, Ledger, LedgerRow, Message
from remediator.reconcile import Reconciliation, Rhythm
from remediator.remediate import Remediator
from remediator.telemetry import Metrics, Telemetry
from remediator.watchdog import DeadMansSwitch
from remediator.worker import Pace, Worker

T = TypeVar("T")
LEASE = timedelta(minutes=1)
RUNS_AT_ONCE = 64
RUNS_MAX = 1000
MESSAGES_MAX = 100
LOOK_SECONDS = 15.0
LONGEST = timedelta(days=1)
"""A case without an `until` that is not over by then never will be."""
OPERATOR = "an operator"
BEFORE = "before-"
"""Ids of runs that were over when the case began: their rows are no part of its story."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case: its story, how long it went on, and what broke down on the way, which is a bug."""

    story: tuple[Line, ...]
    lasted: timedelta
    breakdowns: tuple[str, ...]


def rehearse(case: Case) -> Outcome:
    """Play the case from its start to its end."""
    loop = VirtualLoop()  # type: ignore[abstract] # what it does not implement says so when it is called
    try:
        with closing(open_memory()) as connection:
            return loop.run_until_complete(_Rehearsal(case, loop, connection).play())
    finally:
        loop.close()


class _TellingStore(InlineStore):
    """What is put into the outbox is told at once, with the transaction that it belongs to."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.told: list[tuple[datetime, Message]] = []

    async def run(self, work: Callable[[Ledger], T]) -> T:
        def work_and_tell(ledger: Ledger) -> T:
            result = work(ledger)
            for message in ledger.outbox.due(ledger.now, MESSAGES_MAX):
                ledger.outbox.delivered(message, "told")
                if message.channel is Channel.ESCALATION:
                    self.told.append((ledger.now, message))
            return result

        return await super().run(work_and_tell)


@dataclass(slots=True)
class _Breakdowns:
    """A log that keeps errors: in a case, each of them is a bug of remediator or of the case's world."""

    errors: list[str] = field(default_factory=list)

    def debug(self, event: str, **facts: Any) -> None:
        """Not kept."""

    info = warning = debug

    def error(self, event: str, **facts: Any) -> None:
        self.errors.append(" ".join([event, *(str(facts[name]) for name in ("error", "problems") if name in facts)]))


class _Rehearsal:
    """One case's worker and world."""

    def __init__(self, case: Case, loop: VirtualLoop, connection: Any) -> None:
        self._case = case
        self._loop = loop
        self._clock = VirtualClock(loop, case.begins_at)
        self._policy = replace(case.settings.policy, maintenance=case.maintenance, dependencies=case.dependencies)
        self._store = _TellingStore(connection, lambda: self._policy, case.settings.confirm_after, self._clock)
        self._script = Script(case.world, case.alerts, case.playbook, self._clock, self._post)
        self._ids = (f"run-{number:06}" for number in count(1))
        may_act = case.settings.mode.rank >= Mode.APPROVE.rank
        alerts = alertmanager(self._script)
        self._neighbours = neighbours(self._script, alerts, may_act=may_act)
        self._log = _Breakdowns()
        telemetry = Telemetry(Metrics(), self._log)
        remediator = Remediator(
            self._store, self._neighbours, lambda: self._policy, lambda _source, _name: case.playbook, self._clock, telemetry
        )
        index = PlaybookIndex([case.playbook])
        pace = Pace("case", LEASE, RUNS_AT_ONCE)
        self._worker = Worker(
            self._store, remediator, lambda: index, lambda _now: next(self._ids), self._clock, pace, telemetry
        )
        self._reconciliation = Reconciliation(
            self._store,
            alerts,
            lambda: Admission(index, lambda: next(self._ids)),
            lambda: self._policy,
            Rhythm(case.settings.reconcile_every, case.settings.alertmanager_warm_up),
            self._worker.wake,
            telemetry,
        )
        self._watchdog = DeadMansSwitch(self._store, lambda: self._policy, telemetry)
        self._answers: list[tuple[datetime, Line]] = []
        """Those that were not taken."""

    async def play(self) -> Outcome:
        """History first, then what happens, until the case ends."""
        await self._put_history_on_record()
        loops = [self._worker.run(), self._reconciliation.run()]
        loops += [self._watchdog.run()] if self._policy.watchdog_within is not None else []
        working = [asyncio.create_task(each) for each in loops]
        for at, event in self._case.events:
            await self._sleep_until(at)
            await self._happen(event)
        if self._case.until is not None:
            await self._sleep_until(self._case.until)
        else:
            await self._sleep_until_all_is_over()
        for each in working:
            if each.done():
                each.result()
            each.cancel()
        lines = await self._story()
        return Outcome(tuple(lines), timedelta(seconds=self._loop.time()), tuple(self._log.errors))

    # --- time ---------------------------------------------------------------------------------------------------------

    async def _sleep_until(self, at: timedelta) -> None:
        await asyncio.sleep(max(0.0, at.total_seconds() - self._loop.time()))

    async def _sleep_until_all_is_over(self) -> None:
        """Nothing is left to happen by itself, and every run has ended."""
        await asyncio.sleep(1)
        while self._script.to_come or await self._store.run(_goes_on):
            if self._loop.time() > LONGEST.total_seconds():
                self._log.error(f"the case goes on after {LONGEST.days} d; say where it ends with `until`")
                return
            await asyncio.sleep(LOOK_SECONDS)

    # --- what happens -------------------------------------------------------------------------------------------------

    async def _post(self, body: bytes) -> None:
        await self._store.put(body, self._clock.now())
        self._worker.wake()

    async def _happen(self, event: Event) -> None:
        match event:
            case Change(fields):
                self._script.change(fields)
            case Deed(Verb.FIRE, alert):
                await self._script.fire(alert)
            case Deed(Verb.RESOLVE, alert):
                await self._script.resolve(alert)
            case Deed(Verb.SILENCE, alert):
                await self._script.silence(alert)
            case Deed(Verb.UNSILENCE, alert):
                await self._script.unsilence(alert)
            case Deed(Verb.STORM, count=count):
                await self._script.storm(count)
            case Deed(Verb.WATCHDOG):
                await self._script.watchdog()
            case Deed(Verb.APPROVE | Verb.REJECT):
                await self._answer(event)
            case Deed(Verb.RESET):
                await self._store.run(self._reset_breakers)
            case Deed(Verb.PAUSE):
                await self._store.run(lambda ledger: ledger.switch.pause(OPERATOR, "the case", ledger.now))
            case Deed(Verb.RESUME):
                await self._store.run(lambda ledger: ledger.switch.resume(OPERATOR, "the case", ledger.now))
        self._worker.wake()

    async def _answer(self, deed: Deed) -> None:
        """To what is asked about the alert now; an answer that is not taken is a line of the story."""
        labels, granted = self._case.alerts[deed.alert], deed.verb is Verb.APPROVE

        def work(ledger: Ledger) -> str:
            asking = [run for run in ledger.runs.list(RUNS_MAX, RunState.ASKED) if run.episode.labels == labels]
            if not asking:
                return "nothing is asked now"
            asked = ledger.approvals.asked(asking[0])
            plan = asked.plan if asked else ""
            taken = take(ledger, Answer(asking[0].id, plan, granted, deed.by, "the case"), self._policy)
            return taken.why if isinstance(taken, Objection) else ""

        if objection := await self._store.run(work):
            now = self._clock.now()
            line = story.of_answer(now - self._case.begins_at, self._suffix(deed.alert), objection)
            self._answers.append((now, line))

    def _reset_breakers(self, ledger: Ledger) -> None:
        for breaker in ledger.breakers.of(self._case.playbook):
            ledger.breakers.reset(breaker, OPERATOR, "the case", ledger.now)

    # --- before and after ---------------------------------------------------------------------------------------------

    async def _put_history_on_record(self) -> None:
        case = self._case
        targets = {name: await self._targets(labels) for name, labels in case.alerts.items()}
        services = [workload for found in targets.values() for workload in found if workload is not None]
        await self._store.run(lambda ledger: releases_on_record(ledger, case, services))
        for repair in case.history:
            number = next(n for n, rung in enumerate(case.playbook.ladder) if rung.step.name == repair.step)
            target = targets[repair.alert][number]
            if target is None:
                self._log.error(f"history: nothing is selected that {repair.step} could have been taken on")
                continue
            work = partial(put_on_record, case=case, target=target, repair=repair, run_id=f"{BEFORE}{next(self._ids)}")
            await self._store.run(work)

    async def _targets(self, labels: Mapping[str, str]) -> list[Workload | None]:
        """The target of each rung, for an alert with these labels."""
        selectors = [rung.target or self._case.playbook.target for rung in self._case.playbook.ladder]
        return [await self._target(selector, labels) for selector in selectors]

    async def _target(self, selector: Selector, labels: Mapping[str, str]) -> Workload | None:
        found = await self._neighbours.find(selector.bind(labels))
        return found.workloads[0] if isinstance(found, Found) and len(found.workloads) == 1 else None

    async def _story(self) -> list[Line]:
        """By time; at the same moment the runs in the order in which they began, and then what people were told."""
        began_at = self._case.begins_at
        suffixes = {_identity(labels): self._suffix(name) for name, labels in self._case.alerts.items()}
        timelines: list[tuple[str, list[LedgerRow]]] = await self._store.run(lambda ledger: list(_timelines(ledger, suffixes)))
        lines = [line for suffix, rows in timelines for line in story.of_run(rows, began_at, suffix)]
        lines += self._answers
        for at, message in self._store.told:
            labels = message.payload.get("labels")
            suffix = suffixes.get(_identity(labels)) if labels is not None else ""
            if suffix is not None:
                lines.append((at, story.of_message(message, at - began_at, suffix)))
        return [line for _, line in sorted(lines, key=lambda each: each[0])]

    def _suffix(self, alert: str) -> str:
        return f" for {alert}" if alert else ""


def _timelines(ledger: Ledger, suffixes: Mapping[Any, str]) -> Iterator[tuple[str, list[LedgerRow]]]:
    """Of every run of an alert with a name that began in the case, the oldest first."""
    for run in reversed(ledger.runs.list(RUNS_MAX)):
        suffix = suffixes.get(_identity(run.episode.labels))
        if suffix is not None and not run.id.startswith(BEFORE):
            yield suffix, list(ledger.runs.timeline(run.id))


def _identity(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _goes_on(ledger: Ledger) -> bool:
    return any(not run.has_ended for run in ledger.runs.list(RUNS_MAX))
