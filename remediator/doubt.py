"""Steps in doubt: a call without an outcome is observed by what was written before it, and never blindly repeated.

What observation cannot find out goes to a person, once, and the run goes on holding its target until the alert ends.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from remediator.core.playbook import Playbook
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Score
from remediator.core.step import Rollback, Step, bind
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.core.verdict import Reason
from remediator.ports import Clock, Happened, Ledger, LedgerKind, LedgerRow, Message, Observation, Store
from remediator.record import Next, Record
from remediator.telemetry import Telemetry
from remediator.world import World

GOES_MAX = 3
"""Calls of one rung, each of which but the last was proven not to have happened."""
OBSERVE_FOR = timedelta(seconds=5)
"""A step in doubt may still be under way: only this long after the end of its call is "it did not happen" believed."""
DOUBTS_REMEMBERED = 1000
LOOK_AGAIN = timedelta(seconds=2)
TOLD_LOOK_AGAIN = timedelta(minutes=1)


class Doubt:
    """Advances runs whose call has no outcome."""

    def __init__(self, store: Store, record: Record, world: World, clock: Clock, telemetry: Telemetry) -> None:
        self._store = store
        self._record = record
        self._world = world
        self._clock = clock
        self._tell = telemetry
        self._since: dict[tuple[str, int], float] = {}
        """When this process began to look, by run and number of the call; by a clock that nobody sets."""

    async def observe(self, run: Run) -> Next:
        """Find out whether a call without an outcome happened. What cannot be found out goes to a person, once."""
        if run.state is RunState.CALLED:
            said = "remediator stopped before it heard the outcome"
            row = LedgerRow(self._clock.now(), LedgerKind.OUTCOME, data={"outcome": "in_doubt", "said": said})
            run = await self._record.move(run, RunEvent.DOUBT, row)
        playbook = await self._record.playbook(run)
        gone = await self._record.last(run, LedgerKind.GO)
        step = _step_that_went(run, playbook, gone)
        in_all = timedelta(seconds=gone.data["lasts"]) + OBSERVE_FOR
        patience = self._patience(run, gone.at + in_all - self._clock.now(), in_all)
        observation = await self._world.observe(step, Workload(*gone.data["workload"]), gone.data["mark"])
        now = self._clock.now()
        if observation is None and now < run.deadline:
            return run, now + LOOK_AGAIN
        observation = observation or Observation(Happened.UNKNOWN, "the platform cannot be asked")
        if observation.happened is Happened.YES:
            if isinstance(step, Rollback):
                await self._record.forget_release(run, gone.data["from"])
            return await self._record.move(run, RunEvent.HAPPENED, _observed(observation, now)), None
        if patience > timedelta():
            return run, now + min(LOOK_AGAIN, patience)
        if observation.happened is Happened.NO and run.goes < GOES_MAX:
            return await self._record.move(run, RunEvent.DID_NOT_HAPPEN, _observed(observation, now)), None
        return await self.to_a_person(run, playbook, observation)

    def _patience(self, run: Run, by_the_record: timedelta, in_all: timedelta) -> timedelta:
        """How much longer it may be under way. The clock may have been set since the call: this process waits itself, too."""
        now = self._clock.elapsed()
        since = self._since.setdefault((run.id, run.goes), now)
        if len(self._since) > DOUBTS_REMEMBERED:  # the oldest; were it not over, it would only be looked for once more
            del self._since[next(iter(self._since))]
        return max(by_the_record, in_all - timedelta(seconds=now - since))

    async def to_a_person(self, run: Run, playbook: Playbook | None, observation: Observation) -> Next:
        """Escalate once; hold the target until the alert ends, since nobody knows what is going on there."""
        now = self._clock.now()
        row = _observed(observation, now, told=True)
        episode = await self._store.run(lambda ledger: ledger.episodes.get(run.episode.id))
        if not episode.is_open:
            failed = LedgerRow(now, LedgerKind.RESULT, data={"score": Score.FAILURE})
            return await self._record.end(run, RunEvent.ESCALATE, Reason.IN_DOUBT, playbook, failed), None
        if run.reason is not Reason.IN_DOUBT:
            self._tell.log.warning("run.in_doubt", run=run.id, seen=observation.seen)

            def work(ledger: Ledger) -> tuple[Run, list[Message]]:
                doubtful = ledger.runs.move(run, RunEvent.DOUBT, now, row, reason=Reason.IN_DOUBT)
                return doubtful, self._record.post(ledger, doubtful, playbook, now)

            run, posted = await self._store.run(work)
            self._record.count_raised(run, posted)
        return run, now + TOLD_LOOK_AGAIN


def _step_that_went(run: Run, playbook: Playbook, gone: LedgerRow) -> Step:
    """The step as it was called: its labels were bound then, and a rollback's release is on record."""
    step = bind(playbook.ladder[run.rung].step, run.episode.labels)
    assert not isinstance(step, Unbound)
    return replace(step, to=gone.data["to"]) if isinstance(step, Rollback) else step


def _observed(observation: Observation, at: datetime, **more: object) -> LedgerRow:
    data = {"happened": observation.happened, "seen": observation.seen, **more}
    return LedgerRow(at, LedgerKind.OBSERVATION, data=data)
