"""The main path of an alert that became a run: gather, decide, diagnose, claim, go, call, record, verify, announce.

Everything is written before it is done. A crash between any two lines is picked up from the run's state: what was
claimed and not called is called, what was called without an outcome is observed, and never blindly repeated.

    consider ──claim──▶ act ──outcome──▶ verify ──verified──▶ succeeded
       ▲ │ wait, ask       │ in doubt       │ failed: next rung, or escalate
       └─┘                 └──▶ observe ────┘

What is said to people and heard of them stands in `asking.py`, what is in doubt in `doubt.py`, what all stages share in
`record.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remediator.announcements import annotation
from remediator.asking import ask
from remediator.core.alert import WATCHDOG
from remediator.core.decide import decide
from remediator.core.guards import AFTER_THE_CLAIM, GUARDS, WITHOUT_LOOKING, Guard
from remediator.core.modes import needs_approval
from remediator.core.playbook import Playbook
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Candidate, LedgerFacts, Listing, Neighbours, Policy, Score, Snapshot, Unknown
from remediator.core.step import Rollback
from remediator.core.target import Workload
from remediator.core.verdict import Decision, DecisionKind, Reason
from remediator.doubt import GOES_MAX, Doubt
from remediator.ports import (
    Clock,
    Evidence,
    Facts,
    Fenced,
    Happened,
    Ledger,
    LedgerKind,
    LedgerRow,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Store,
    TransientError,
)
from remediator.prospect import Choice, Prospect, applies, choose, gather, look_up
from remediator.record import Next, Record, call_lasts, decision_row
from remediator.telemetry import Telemetry
from remediator.verification import look_once, watch
from remediator.world import World

NOT_OR_NO_LONGER_OURS = frozenset({Reason.RESOLVED, Reason.STALE, Reason.SILENCED, Reason.INHIBITED, Reason.MAINTENANCE})
"""Refusals that cancel: the alert is over, or people have said that they see to it. Nobody is told anything new by them."""
SAYS_IT_ALL = frozenset({Reason.UNCONFIRMED, Reason.UNCORROBORATED, Reason.STORM})
"""Waits whose reason tells people more than that the run gave up."""
ENDS_AT_A_KNOWN_TIME = frozenset({Reason.COOLDOWN, Reason.RATE_TARGET, Reason.RATE_PLAYBOOK, Reason.RATE_GLOBAL})
"""Waits that only time ends: one that lasts beyond the deadline is told to people now, not then."""
ASK_AFTER = timedelta(minutes=5)
"""What was last heard of longer ago is asked of Alertmanager before anything is done: remediator may have been down."""
LOOK_AGAIN = timedelta(seconds=2)
ASKED_LOOK_AGAIN = timedelta(minutes=1)
"""An answer wakes the run at once; meanwhile the other guards may have something against the plan."""


class Remediator:
    """Advances runs. What it knows of a run is in the store; `calls` says only what is under way in this process."""

    def __init__(
        self,
        store: Store,
        world: World,
        policy: Callable[[], Policy],
        parse: Callable[[str, str], Playbook],
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._world = world
        self._policy = policy
        self._clock = clock
        self._tell = telemetry
        self._record = Record(store, parse, clock, telemetry)
        self._doubt = Doubt(store, self._record, world, clock, telemetry)
        self._began_at = clock.now()
        self.calls: set[str] = set()
        """Runs whose call was sent and has no outcome on record yet: the only ones that a stop should wait for."""

    async def advance(self, run: Run) -> datetime | None:
        """Take one leased run as far as it goes now. When it is due again, or None if it has ended."""
        due_at: datetime | None = None
        while due_at is None and not run.has_ended:
            match run.state:
                case RunState.NEW | RunState.WAITING | RunState.ASKED:
                    run, due_at = await self.consider(run)
                case RunState.CLAIMED:
                    run, due_at = await self.act(run)
                case RunState.CALLED | RunState.IN_DOUBT:
                    run, due_at = await self._doubt.observe(run)
                case RunState.VERIFYING:
                    run, due_at = await self.verify(run)
        return due_at

    async def abandon(self, run: Run) -> datetime | None:
        """Leave a run that keeps breaking down to people; when it is due again, or None. Raises Fenced or StoreUnavailable.

        Of a call without an outcome nobody knows more than before: it goes on holding its target.
        """
        found = await self._store.run(lambda ledger: ledger.runs.get(run.id))
        if found is None or found.has_ended:
            return None
        if found.state in (RunState.CALLED, RunState.IN_DOUBT):
            broken = Observation(Happened.UNKNOWN, "remediator broke down over it; its log says how")
            return (await self._doubt.to_a_person(found, None, broken))[1]
        score = Score.FAILURE if found.state is RunState.VERIFYING else Score.NEUTRAL
        row = LedgerRow(self._clock.now(), LedgerKind.RESULT, data={"score": score})
        await self._record.end(found, RunEvent.ESCALATE, Reason.BROKE_DOWN, None, row)
        return None

    # --- gather, decide, diagnose, claim ------------------------------------------------------------------------------

    async def consider(self, run: Run) -> Next:
        """Decide about the first rung, from the run's own upwards, that applies."""
        playbook = await self._record.playbook(run)
        if held := await self._held_by_a_storm(run, playbook):
            return held
        neighbours = await self._neighbours(run)
        choice = await choose(
            lambda number: self._prospect(run, playbook, number),
            range(run.rung, len(playbook.ladder)),
            lambda prospect: self._decide(prospect, neighbours),
            lambda prospect, decision: self._diagnose(run, prospect, decision),
        )
        if choice is None:
            reason = Reason.LADDER_EXHAUSTED if run.rung else Reason.NO_RUNG_APPLIES
            return await self._record.end(run, RunEvent.ESCALATE, reason, playbook), None
        match choice.decision.kind:
            case DecisionKind.WAIT | DecisionKind.REFUSE:
                return await self._stand_back(run, choice.prospect, choice.decision)
            case DecisionKind.ACT if run.rung == 0 and self._clock.now() >= run.deadline:
                return await self._record.end(run, RunEvent.ESCALATE, Reason.GAVE_UP, playbook), None
            case DecisionKind.ACT:
                return await self._claim(run, choice.prospect)
            case DecisionKind.ASK:
                return await self._ask(run, choice.prospect, choice.decision)
            case DecisionKind.SUGGEST:
                return await self._leave_to_people(run, choice)

    async def _held_by_a_storm(self, run: Run, playbook: Playbook) -> Next | None:
        """No platform is asked for the sake of a run that a storm holds; None: it holds none, or not this one any more.

        New runs are held before they are leased, in the transaction that admits them: only a run that was is looked at here.
        """
        if run.reason is not Reason.STORM:
            return None
        unseen = Unknown("no platform is asked during a storm")
        candidate = Candidate(run.id, run.episode, playbook, 0, playbook.ladder[0].step, unseen)

        def work(ledger: Ledger) -> Decision:
            return decide(candidate, Snapshot(ledger.claims.facts(candidate), self._policy()), ledger.now, WITHOUT_LOOKING)

        decision = await self._store.run(work)
        if decision.kind is DecisionKind.ACT:
            return None
        return await self._stand_back(run, Prospect(candidate, self._world), decision)

    async def _prospect(self, run: Run, playbook: Playbook, number: int) -> Prospect:
        return await look_up(self._world, self, run.id, run.episode, playbook, number)

    async def previous(self, workload: Workload) -> str:
        """The release that the workload ran before its current one, or empty."""
        return await self._store.run(lambda ledger: ledger.releases.previous(workload))

    async def releases(self) -> Sequence[str]:
        """Every release on record."""
        return await self._store.run(lambda ledger: ledger.releases.all())

    async def rolled_out_at(self, workload: Workload) -> datetime | None:
        """When its release took the place of another, or None."""
        return await self._store.run(lambda ledger: ledger.releases.rolled_out_at(workload))

    async def _decide(self, prospect: Prospect, neighbours: Neighbours, guards: Sequence[Guard] = GUARDS) -> Decision:
        def work(ledger: Ledger) -> Decision:
            facts = _facts(ledger, prospect.candidate, ledger.now)
            return decide(prospect.candidate, Snapshot(facts, self._policy(), neighbours), ledger.now, guards)

        return await self._store.run(work)

    async def _stand_back(self, run: Run, prospect: Prospect, decision: Decision) -> Next:
        """Wait, refuse, cancel or escalate, as the decision and the run's history ask."""
        now = self._clock.now()
        run = replace(run, target=prospect.candidate.target or run.target)
        row = decision_row(decision, now)
        if decision.kind is DecisionKind.WAIT and decision.retry_at is not None:
            in_time = decision.retry_at < run.deadline or decision.reason not in ENDS_AT_A_KNOWN_TIME
            if now < run.deadline and in_time:
                if run.state is not RunState.WAITING or run.reason is not decision.reason:
                    run = await self._record.move(run, RunEvent.WAIT, row, reason=decision.reason)
                    self._tell.decided(run, decision)
                return run, min(decision.retry_at, run.deadline)
            reason = decision.reason if decision.reason in SAYS_IT_ALL or not in_time else Reason.GAVE_UP
            # Nobody is woken for what was probably only a message that came late, unless they were asked about it already.
            asked = await self._store.run(lambda ledger: ledger.approvals.asked(run))
            is_noise = decision.reason is Reason.UNCONFIRMED and not run.rung and asked is None
            event = RunEvent.CANCEL if is_noise else RunEvent.ESCALATE
            return await self._record.end(run, event, reason, prospect.playbook, row), None
        self._tell.decided(run, decision)
        event = _event_of_refusal(run, decision.reason)
        return await self._record.end(run, event, decision.reason, prospect.playbook, row), None

    async def _diagnose(self, run: Run, prospect: Prospect, decision: Decision) -> Sequence[Evidence]:
        """Evidence before anything is changed, kept with the run; while it is asked about, only once for each question."""
        now = self._clock.now()
        evidence = await gather(prospect, self, now, acting=decision.kind is DecisionKind.ACT)
        if evidence and not (run.state is RunState.ASKED and decision.kind is DecisionKind.ASK):
            found = [{"name": each.name, "text": each.text, "numbers": dict(each.numbers)} for each in evidence]
            row = LedgerRow(now, LedgerKind.EVIDENCE, target=prospect.workload.id, data={"evidence": found})
            await self._store.run(lambda ledger: ledger.runs.append(run, row))
        return evidence

    async def _claim(self, run: Run, prospect: Prospect) -> Next:
        """Take the target and write the intent, if the guards still say so inside the transaction."""
        candidate, command = prospect.candidate, prospect.command_or_why_not
        data = {"step": candidate.step.name, "command": command, "commands": [command], "plan": candidate.plan}
        neighbours = await self._neighbours(run)  # gathering the evidence took its time
        is_listed = isinstance(neighbours.listing, Listing) and neighbours.listing.firing

        def work(ledger: Ledger) -> tuple[Run, Decision]:
            ledger.claims.decide_alone(candidate)
            now = ledger.now  # after the wait for those who decide about the same
            decision = decide(candidate, Snapshot(ledger.claims.facts(candidate), self._policy(), neighbours), now)
            intent = LedgerRow(now, LedgerKind.INTENT, target=candidate.target, data=data)
            if decision.kind is not DecisionKind.ACT:
                return run, decision
            if is_listed and run.episode.listed_at is None:  # verification may ask whether it still is
                ledger.episodes.confirm(run.episode.id, firing=True, at=now)
            decided = decision_row(decision, now)
            taker = replace(run, rung=candidate.rung, target=candidate.target)
            claimed = ledger.claims.claim(taker, prospect.workload.locks, now, decided, intent)
            ledger.outbox.put(annotation(claimed, ledger.runs.timeline(run.id)), now)
            return claimed, decision

        claimed, decision = await self._store.run(work)
        match decision.kind:
            case DecisionKind.ACT:
                self._tell.decided(claimed, decision)
                return await self._go(claimed, prospect)
            case DecisionKind.ASK:
                return await self._ask(run, prospect, decision)
            case DecisionKind.SUGGEST:
                return await self._leave_to_people(run, Choice(prospect, decision))
            case DecisionKind.WAIT | DecisionKind.REFUSE:
                return await self._stand_back(run, prospect, decision)

    async def _ask(self, run: Run, prospect: Prospect, decision: Decision) -> Next:
        """Put the plan to people and wait for their answer. Nobody answers in time: escalate, do not forget."""
        candidate, command = prospect.candidate, prospect.command_or_why_not
        run = replace(run, target=candidate.target, rung=candidate.rung)
        row = decision_row(decision, self._clock.now(), commands=[command])
        asking = await self._store.run(lambda ledger: ask(ledger, run, candidate, command, row, self._policy()))
        if asking.posted:
            self._tell.decided(asking.run, decision, [command])
            self._record.count_raised(asking.run, asking.posted)
        now = self._clock.now()
        if now >= asking.asked.until:
            return await self._record.end(asking.run, RunEvent.ESCALATE, Reason.NOT_APPROVED, prospect.playbook, row), None
        return asking.run, min(now + ASKED_LOOK_AGAIN, asking.asked.until)

    async def _leave_to_people(self, run: Run, choice: Choice) -> Next:
        """Suggest: show the commands of every rung from here on that applies to what was seen."""
        prospect, decision = choice.prospect, choice.decision
        rungs = range(prospect.candidate.rung, len(prospect.playbook.ladder))
        ahead = [await self._prospect(run, prospect.playbook, number) for number in rungs]
        shown = [each.command_or_why_not for each in ahead if applies(each.rung, choice.evidence)]
        shown = [command for command in shown if command]
        acted = run.rung > 0
        run = replace(run, target=prospect.candidate.target, rung=prospect.candidate.rung)
        row = decision_row(decision, self._clock.now(), commands=shown)
        self._tell.decided(run, decision, shown)
        # Once something was done, a suggestion that nobody looks for would be the end of it: people are told.
        event = RunEvent.ESCALATE if acted else RunEvent.SUGGEST
        return await self._record.end(run, event, decision.reason, prospect.playbook, row), None

    async def _neighbours(self, run: Run) -> Neighbours:
        """What Alertmanager and Prometheus say now.

        A firing that may be a late re-send, or was not heard of lately, is for Alertmanager to confirm where it can. Of an
        alert that it never listed (Grafana's) its silence says nothing.
        """
        neighbours = await self._world.neighbours(run.episode)
        for said in (neighbours.listing, neighbours.corroboration):
            if isinstance(said, Unknown):
                self._tell.log.warning("neighbour.unreachable", run=run.id, error=said.why)
        episode, listing = run.episode, neighbours.listing
        certain = episode.confirmed and self._clock.now() < episode.heard_at + ASK_AFTER
        if isinstance(listing, Listing) and not certain and (listing.firing or episode.listed_at is not None):
            await self._store.run(lambda ledger: ledger.episodes.confirm(episode.id, firing=listing.firing, at=ledger.now))
        return neighbours

    # --- go, call, record ---------------------------------------------------------------------------------------------

    async def act(self, run: Run) -> Next:
        """A claimed run that this process did not claim itself just now: look its target up again, then go."""
        playbook = await self._record.playbook(run)
        if run.rung == 0 and self._clock.now() >= run.deadline:
            return await self._withdraw(run, playbook, Reason.GAVE_UP), None
        prospect = await self._prospect(run, playbook, run.rung)
        if isinstance(prospect.candidate.lookup, Unknown):
            return await self._later(run, playbook, LOOK_AGAIN)
        if prospect.candidate.target != run.target:
            return await self._withdraw(run, playbook, Reason.NO_TARGET), None
        decision = await self._decide(prospect, await self._neighbours(run), AFTER_THE_CLAIM)
        if decision.kind is not DecisionKind.ACT:
            row = decision_row(decision, self._clock.now(), commands=[prospect.command_or_why_not])
            return await self._withdraw(run, playbook, decision.reason, row), None
        return await self._go(run, prospect)

    async def _go(self, run: Run, prospect: Prospect) -> Next:
        """The last look, then the call, then its outcome."""
        step, workload = prospect.candidate.step, prospect.workload
        try:
            mark = await self._world.mark(step, workload)
            self._world.actuator_of(step, workload)
        except TransientError:
            return await self._later(run, prospect.playbook, LOOK_AGAIN)
        except PermanentError as error:
            self._tell.log.error("step.impossible", run=run.id, error=str(error))
            return await self._withdraw(run, prospect.playbook, Reason.STEP_IMPOSSIBLE), None
        sent = {
            "mark": mark,
            "lasts": call_lasts(step, workload).total_seconds(),
            "from": workload.release,
            "to": step.to if isinstance(step, Rollback) else "",
            "workload": [workload.platform, workload.kind, workload.name, workload.service],
        }
        self.calls.add(run.id)
        try:
            return await self._go_and_call(run, prospect, sent)
        finally:
            self.calls.discard(run.id)

    async def _go_and_call(self, run: Run, prospect: Prospect, sent: Facts) -> Next:
        candidate = prospect.candidate

        def work(ledger: Ledger) -> tuple[Run, Reason, datetime]:
            now = ledger.now
            by_approval = needs_approval(candidate, self._policy(), ledger.heartbeats.heard_at(WATCHDOG), now)
            return *ledger.claims.go(run, sent, now, candidate.plan if by_approval else ""), now

        gone, reason, now = await self._store.run(work)
        if reason is Reason.PAUSED:
            return await self._later(run, prospect.playbook, LOOK_AGAIN)
        if reason is not Reason.CLEAR:
            return await self._withdraw(run, prospect.playbook, reason), None
        if gone.lease_until is None or self._clock.now() >= gone.lease_until:
            raise Fenced(f"run {run.id} slept beyond its lease: who holds it now observes what was not sent")
        step = candidate.step
        self._tell.calling(gone, step.name, prospect.command_or_why_not, (now - run.episode.opened_at).total_seconds())
        outcome, said = "done", ""
        try:
            async with asyncio.timeout(sent["lasts"]):
                said = await self._world.perform(step, prospect.workload, sent["mark"])
        except TransientError as error:
            outcome, said = "not_sent", str(error)
        except PermanentError as error:
            outcome, said = "failed", str(error)
        except (OutcomeUnknown, TimeoutError) as error:
            outcome, said = "in_doubt", str(error) or "no answer in time"
        # A cancelled task must not lose what it knows by now: the write goes on, and the cancellation after it.
        recording = asyncio.create_task(self._put_on_record(gone, prospect, outcome, said, now))
        recording.add_done_callback(_heard)
        return await asyncio.shield(recording)

    async def _put_on_record(self, run: Run, prospect: Prospect, outcome: str, said: str, gone_at: datetime) -> Next:
        now = self._clock.now()
        step = prospect.candidate.step
        self._tell.called(run, step.name, outcome, said, (now - gone_at).total_seconds())
        row = LedgerRow(now, LedgerKind.OUTCOME, data={"outcome": outcome, "said": said})
        match outcome:
            case "in_doubt":
                return await self._record.move(run, RunEvent.DOUBT, row), None
            case "not_sent":
                run = await self._record.move(run, RunEvent.DID_NOT_HAPPEN, row)
                if run.goes >= GOES_MAX:
                    return await self._withdraw(run, prospect.playbook, Reason.NOT_SENT), None
                return run, now + LOOK_AGAIN
            case _:
                if isinstance(step, Rollback) and outcome == "done":
                    await self._record.forget_release(run, prospect.workload.release)
                return await self._record.move(run, RunEvent.OUTCOME, row), None

    async def _withdraw(self, run: Run, playbook: Playbook, reason: Reason, *rows: LedgerRow) -> Run:
        """Nothing was sent, and nothing will be: neutral for the breaker; cancelled if the alert is over, else for people."""
        event = RunEvent.CANCEL if reason in NOT_OR_NO_LONGER_OURS else RunEvent.ESCALATE
        row = LedgerRow(self._clock.now(), LedgerKind.RESULT, data={"score": Score.NEUTRAL})
        return await self._record.end(run, event, reason, playbook, *rows, row)

    async def _later(self, run: Run, playbook: Playbook, delay: timedelta) -> Next:
        """A claimed run waits for a neighbour or for `resume`, until its deadline."""
        now = self._clock.now()
        if now < run.deadline:
            return run, now + delay
        return await self._withdraw(run, playbook, Reason.GAVE_UP), None

    # --- verify -------------------------------------------------------------------------------------------------------

    async def verify(self, run: Run) -> Next:
        """Look until the checks hold and go on holding, or time is up; then succeed, climb, or escalate."""
        playbook = await self._record.playbook(run)
        last = await self._record.last(run, LedgerKind.OUTCOME, LedgerKind.OBSERVATION)
        failed = last.data.get("outcome") == "failed"
        # The checks had no chance while this process was not there to look: an upgrade must not look like a failure.
        began_at = max(last.at, self._began_at)
        probe, seen = await watch(
            lambda: self._look(run, playbook),
            playbook.verify,
            last.at if failed else began_at + playbook.verify.within,
            self._clock,
        )
        now = self._clock.now()
        outcome = {Probe.HOLDS: "verified", Probe.FAILS: "failed", Probe.UNKNOWN: "unverified"}[probe]
        score = Score.SUCCESS if probe is Probe.HOLDS and not failed else Score.FAILURE
        rows = (
            LedgerRow(now, LedgerKind.VERIFICATION, data={"outcome": outcome, "seen": seen}),
            LedgerRow(now, LedgerKind.RESULT, data={"score": score}),
        )
        self._tell.verified(run, outcome, seen)
        if probe is Probe.HOLDS:
            reason = Reason.RECOVERED if failed else Reason.VERIFIED
            return await self._record.end(run, RunEvent.VERIFIED, reason, playbook, *rows), None
        if probe is Probe.FAILS and run.rung + 1 < len(playbook.ladder):
            return await self._record.move(run, RunEvent.CLIMB, *rows), None
        reason = Reason.LADDER_EXHAUSTED if probe is Probe.FAILS else Reason.UNVERIFIED
        return await self._record.end(run, RunEvent.ESCALATE, reason, playbook, *rows), None

    async def _look(self, run: Run, playbook: Playbook) -> tuple[Probe, str]:
        """One look at the target as it is found now: a rollback has recreated it."""
        prospect = await self._prospect(run, playbook, run.rung)
        if prospect.candidate.target != run.target:
            return Probe.UNKNOWN, f"{run.target} is not to be found now"
        episode = await self._store.run(lambda ledger: ledger.episodes.get(run.episode.id))
        return await look_once(self._world, playbook.verify, prospect.workload, episode)


def _facts(ledger: Ledger, candidate: Candidate, now: datetime) -> LedgerFacts:
    """The facts that guards ask for; what the target runs now is remembered on the way, for a later rollback."""
    if candidate.workload is not None:
        ledger.releases.record(candidate.workload, now)
    return ledger.claims.facts(candidate)


def _event_of_refusal(run: Run, reason: Reason) -> RunEvent:
    """What is over is cancelled; an open breaker, or a refusal when something was done already, needs a person."""
    if reason in NOT_OR_NO_LONGER_OURS:
        return RunEvent.CANCEL
    if reason is Reason.REJECTED:
        return RunEvent.REFUSE  # a person knows already
    if reason in (Reason.BREAKER_OPEN, Reason.MASKING) or run.rung:
        return RunEvent.ESCALATE
    return RunEvent.REFUSE


def _heard(task: asyncio.Task[Next]) -> None:
    """Who waited for it may have been cancelled, and then asks for no error: a taken-over run has another record by now."""
    if not task.cancelled():
        task.exception()
