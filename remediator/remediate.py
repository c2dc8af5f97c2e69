"""The main path of an alert that became a run: gather, decide, diagnose, claim, go, call, record, verify, announce.

Everything is written before it is done. A crash between any two lines is picked up from the run's state: what was
claimed and not called is called, what was called without an outcome is observed, and never blindly repeated.

    consider ──claim──▶ act ──outcome──▶ verify ──verified──▶ succeeded
       ▲ │ wait            │ in doubt       │ failed: next rung, or escalate
       └─┘                 └──▶ observe ────┘
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from remediator.announcements import annotation, approval_wanted, messages, severity_of
from remediator.core.decide import decide
from remediator.core.guards import WITHOUT_LOOKING
from remediator.core.modes import needs_approval
from remediator.core.playbook import Playbook
from remediator.core.run import Run, RunEvent, RunState
from remediator.core.snapshot import Candidate, LedgerFacts, Listing, Neighbours, Policy, Score, Snapshot, Unknown
from remediator.core.step import Rollback, Step, bind
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.core.verdict import Decision, DecisionKind, Pass, Reason
from remediator.ports import (
    Actuator,
    Asked,
    Channel,
    Clock,
    Evidence,
    Facts,
    Fenced,
    Happened,
    Ledger,
    LedgerKind,
    LedgerRow,
    Message,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Store,
    TransientError,
)
from remediator.prospect import Choice, Prospect, applies, choose, gather, look_up
from remediator.telemetry import Telemetry
from remediator.verification import look_once, watch
from remediator.world import World

CALL_GRACE = timedelta(seconds=30)
"""What a call may take beyond the step's own timeout, per instance."""
ROLLBACK_GRACE = timedelta(minutes=4)
"""It makes a container, stops one, starts the other, and puts things back if that fails."""
OBSERVE_FOR = timedelta(seconds=5)
"""A step in doubt may still be under way: only after its own timeout and this is "it did not happen" believed."""
GOES_MAX = 3
"""Calls of one rung, each of which but the last was proven not to have happened."""
MAY_CHANGE_AFTER_CLAIM = frozenset({"alive", "silence", "maintenance", "target", "mode", "approval"})
"""Guards asked again when a claimed run is taken up: the alert, its target's consent and people's. The others count what
the claim itself has put on record; `go` asks the switch."""
NOT_OR_NO_LONGER_OURS = frozenset({Reason.RESOLVED, Reason.STALE, Reason.SILENCED, Reason.INHIBITED, Reason.MAINTENANCE})
"""Refusals that cancel: the alert is over, or people have said that they see to it. Nobody is told anything new by them."""
NOBODY_IS_WOKEN = frozenset({Reason.UNCONFIRMED, Reason.UNCORROBORATED})
"""Waits that end in nothing: it was probably only a message that came late, or an alert that ended meanwhile."""
ENDS_AT_A_KNOWN_TIME = frozenset({Reason.COOLDOWN, Reason.RATE_TARGET, Reason.RATE_PLAYBOOK, Reason.RATE_GLOBAL})
"""Waits that only time ends: one that lasts beyond the deadline is told to people now, not then."""
ASK_AFTER = timedelta(minutes=5)
"""What was last heard of longer ago is asked of Alertmanager before anything is done: remediator may have been down."""
LOOK_AGAIN = timedelta(seconds=2)
IN_DOUBT_LOOK_AGAIN = timedelta(minutes=1)
ASKED_LOOK_AGAIN = timedelta(seconds=30)
"""An answer wakes the run at once; meanwhile the other guards may have something against the plan."""

Next = tuple[Run, datetime | None]
"""A run after a stage, and when it is due again; None: go on at once, or it has ended."""


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
        self._parse = parse
        self._clock = clock
        self._tell = telemetry
        self._began_at = clock.now()
        self._read: dict[str, Playbook] = {}
        """Playbooks by version: there are as many as there were reloads."""
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
                    run, due_at = await self.observe(run)
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
            return (await self._to_a_person(found, None, broken))[1]
        score = Score.FAILURE if found.state is RunState.VERIFYING else Score.NEUTRAL
        row = LedgerRow(self._clock.now(), LedgerKind.RESULT, data={"score": score})
        await self._end(found, RunEvent.ESCALATE, Reason.BROKE_DOWN, None, row)
        return None

    # --- gather, decide, diagnose, claim ------------------------------------------------------------------------------

    async def consider(self, run: Run) -> Next:
        """Decide about the first rung, from the run's own upwards, that applies."""
        playbook = await self._playbook(run)
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
            return await self._end(run, RunEvent.ESCALATE, reason, playbook), None
        match choice.decision.kind:
            case DecisionKind.WAIT | DecisionKind.REFUSE:
                return await self._stand_back(run, choice.prospect, choice.decision)
            case DecisionKind.ACT if run.rung == 0 and self._clock.now() >= run.deadline:
                return await self._end(run, RunEvent.ESCALATE, Reason.GAVE_UP, playbook), None
            case DecisionKind.ACT:
                return await self._claim(run, choice.prospect)
            case DecisionKind.ASK:
                return await self._ask(run, choice.prospect, choice.decision)
            case DecisionKind.SUGGEST:
                return await self._leave_to_people(run, choice)

    async def _held_by_a_storm(self, run: Run, playbook: Playbook) -> Next | None:
        """While a storm blows, no platform is asked for the sake of a run that has done nothing yet; None: none blows."""
        unseen = Unknown("no platform is asked during a storm")
        candidate = Candidate(run.id, run.episode, playbook, 0, playbook.ladder[0].step, unseen)

        def work(ledger: Ledger) -> Decision | None:
            if run.goes or run.target or ledger.storms.current() is None:
                return None
            return decide(candidate, Snapshot(ledger.claims.facts(candidate), self._policy()), ledger.now, WITHOUT_LOOKING)

        decision = await self._store.run(work)
        if decision is None or decision.kind is DecisionKind.ACT:
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

    async def _decide(self, prospect: Prospect, neighbours: Neighbours) -> Decision:
        def work(ledger: Ledger) -> Decision:
            facts = _facts(ledger, prospect.candidate, ledger.now)
            return decide(prospect.candidate, Snapshot(facts, self._policy(), neighbours), ledger.now)

        return await self._store.run(work)

    async def _stand_back(self, run: Run, prospect: Prospect, decision: Decision) -> Next:
        """Wait, refuse, cancel or escalate, as the decision and the run's history ask."""
        now = self._clock.now()
        run = replace(run, target=prospect.candidate.target or run.target)
        row = _decision_row(decision, now)
        if decision.kind is DecisionKind.WAIT and decision.retry_at is not None:
            in_time = decision.retry_at < run.deadline or decision.reason not in ENDS_AT_A_KNOWN_TIME
            if now < run.deadline and in_time:
                if run.state is not RunState.WAITING or run.reason is not decision.reason:
                    run = await self._move(run, RunEvent.WAIT, row, reason=decision.reason)
                    self._tell.decided(run, decision)
                return run, min(decision.retry_at, run.deadline)
            says_it_all = decision.reason in NOBODY_IS_WOKEN or decision.reason is Reason.STORM or not in_time
            reason = decision.reason if says_it_all else Reason.GAVE_UP
            event = RunEvent.CANCEL if decision.reason in NOBODY_IS_WOKEN else RunEvent.ESCALATE
            return await self._end(run, event, reason, prospect.playbook, row), None
        self._tell.decided(run, decision)
        event = _event_of_refusal(run, decision.reason)
        return await self._end(run, event, decision.reason, prospect.playbook, row), None

    async def _diagnose(self, run: Run, prospect: Prospect, decision: Decision) -> Sequence[Evidence]:
        """Evidence before anything is changed, kept with the run."""
        now = self._clock.now()
        evidence = await gather(prospect, self, now, acting=decision.kind is DecisionKind.ACT)
        if evidence:
            found = [{"name": each.name, "text": each.text, "numbers": dict(each.numbers)} for each in evidence]
            row = LedgerRow(now, LedgerKind.EVIDENCE, target=prospect.workload.id, data={"evidence": found})
            await self._store.run(lambda ledger: ledger.runs.append(run, row))
        return evidence

    async def _claim(self, run: Run, prospect: Prospect) -> Next:
        """Take the target and write the intent, if the guards still say so inside the transaction."""
        candidate, command = prospect.candidate, prospect.command
        data = {"step": candidate.step.name, "command": command, "commands": [command], "plan": candidate.plan}
        neighbours = await self._neighbours(run)  # gathering the evidence took its time

        def work(ledger: Ledger) -> tuple[Run, Decision]:
            now = ledger.now
            ledger.claims.decide_alone(candidate)
            decision = decide(candidate, Snapshot(ledger.claims.facts(candidate), self._policy(), neighbours), now)
            intent = LedgerRow(now, LedgerKind.INTENT, target=candidate.target, data=data)
            if decision.kind is not DecisionKind.ACT:
                return run, decision
            decided = _decision_row(decision, now)
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
        """Put the plan to people, once, and wait for their answer. Nobody answers in time: escalate, do not forget."""
        candidate, command = prospect.candidate, prospect.command_or_why_not
        run = replace(run, target=candidate.target, rung=candidate.rung)

        def work(ledger: Ledger) -> tuple[Run, Asked, list[Message]]:
            now, before = ledger.now, ledger.approvals.asked(run)
            asked = before or Asked(candidate.plan, command, now + self._policy().approval_within)
            if now >= asked.until or (before and before.plan == candidate.plan and run.state is RunState.ASKED):
                return run, asked, []
            asked = replace(asked, plan=candidate.plan, command=command)
            ledger.runs.append(run, _decision_row(decision, now))
            waiting = ledger.approvals.ask(run, asked, now)
            question = approval_wanted(waiting, prospect.playbook, asked, ledger.runs.timeline(run.id))
            ledger.outbox.put(question, now)
            return waiting, asked, [question]

        run, asked, posted = await self._store.run(work)
        now = self._clock.now()
        if posted:
            self._tell.decided(run, decision, [command])
            self._count_raised(run, posted)
        if now >= asked.until:
            row = _decision_row(decision, now, commands=[command])
            return await self._end(run, RunEvent.ESCALATE, Reason.NOT_APPROVED, prospect.playbook, row), None
        return run, min(now + ASKED_LOOK_AGAIN, asked.until)

    async def _leave_to_people(self, run: Run, choice: Choice) -> Next:
        """Suggest: show the commands of every rung from here on that applies to what was seen."""
        prospect, decision = choice.prospect, choice.decision
        rungs = range(prospect.candidate.rung, len(prospect.playbook.ladder))
        ahead = [await self._prospect(run, prospect.playbook, number) for number in rungs]
        shown = [each.command_or_why_not for each in ahead if applies(each.rung, choice.evidence)]
        shown = [command for command in shown if command]
        acted = run.rung > 0
        run = replace(run, target=prospect.candidate.target, rung=prospect.candidate.rung)
        row = _decision_row(decision, self._clock.now(), commands=shown)
        self._tell.decided(run, decision, shown)
        # Once something was done, a suggestion that nobody looks for would be the end of it: people are told.
        event = RunEvent.ESCALATE if acted else RunEvent.SUGGEST
        return await self._end(run, event, decision.reason, prospect.playbook, row), None

    async def _neighbours(self, run: Run) -> Neighbours:
        """What Alertmanager and Prometheus say now.

        A firing that may be a late re-send, or was not heard of lately, is for Alertmanager to confirm where it can.
        """
        neighbours = await self._world.neighbours(run.episode)
        for said in (neighbours.listing, neighbours.corroboration):
            if isinstance(said, Unknown):
                self._tell.log.warning("neighbour.unreachable", run=run.id, error=said.why)
        heard_lately = self._clock.now() < run.episode.heard_at + ASK_AFTER
        listing = neighbours.listing
        if isinstance(listing, Listing) and not (run.episode.confirmed and heard_lately):
            await self._store.run(lambda ledger: ledger.episodes.confirm(run.episode.id, firing=listing.firing))
        return neighbours

    # --- go, call, record ---------------------------------------------------------------------------------------------

    async def act(self, run: Run) -> Next:
        """A claimed run that this process did not claim itself just now: look its target up again, then go."""
        playbook = await self._playbook(run)
        if run.rung == 0 and self._clock.now() >= run.deadline:
            return await self._withdraw(run, playbook, Reason.GAVE_UP), None
        prospect = await self._prospect(run, playbook, run.rung)
        if isinstance(prospect.candidate.lookup, Unknown):
            return await self._later(run, playbook, LOOK_AGAIN)
        if prospect.candidate.target != run.target:
            return await self._withdraw(run, playbook, Reason.NO_TARGET), None
        decision = await self._decide(prospect, await self._neighbours(run))
        changed = [given.verdict for given in decision.verdicts if given.guard in MAY_CHANGE_AFTER_CLAIM]
        if withdrawn := next((verdict.reason for verdict in changed if not isinstance(verdict, Pass)), None):
            return await self._withdraw(run, playbook, withdrawn), None
        return await self._go(run, prospect)

    async def _go(self, run: Run, prospect: Prospect) -> Next:
        """The last look, then the call, then its outcome."""
        step, workload = prospect.candidate.step, prospect.workload
        try:
            mark = await self._world.mark(step, workload)
            actuator = self._world.actuator_of(step, workload)
        except TransientError:
            return await self._later(run, prospect.playbook, LOOK_AGAIN)
        except PermanentError as error:
            self._tell.log.error("step.impossible", run=run.id, error=str(error))
            return await self._withdraw(run, prospect.playbook, Reason.STEP_IMPOSSIBLE), None
        sent = {
            "mark": mark,
            "from": workload.release,
            "to": step.to if isinstance(step, Rollback) else "",
            "workload": [workload.platform, workload.kind, workload.name, workload.service],
        }
        self.calls.add(run.id)
        try:
            return await self._go_and_call(run, prospect, actuator, sent)
        finally:
            self.calls.discard(run.id)

    async def _go_and_call(self, run: Run, prospect: Prospect, actuator: Actuator, sent: Facts) -> Next:
        candidate = prospect.candidate
        approved_plan = candidate.plan if needs_approval(candidate, self._policy()) else ""

        def work(ledger: Ledger) -> tuple[Run, Reason, datetime]:
            now = ledger.now
            return *ledger.claims.go(run, sent, now, approved_plan), now

        gone, reason, now = await self._store.run(work)
        if reason is Reason.PAUSED:
            return await self._later(run, prospect.playbook, LOOK_AGAIN)
        if reason is not Reason.CLEAR:
            return await self._withdraw(run, prospect.playbook, reason), None
        if gone.lease_until is None or self._clock.now() >= gone.lease_until:
            raise Fenced(f"run {run.id} slept beyond its lease: who holds it now observes what was not sent")
        step = candidate.step
        self._tell.calling(gone, step.name, prospect.command, (now - run.episode.opened_at).total_seconds())
        outcome, said = "done", ""
        try:
            async with asyncio.timeout(_call_seconds(prospect)):
                said = await actuator.perform(step, prospect.workload, sent["mark"])
        except TransientError as error:
            outcome, said = "not_sent", str(error)
        except PermanentError as error:
            outcome, said = "failed", str(error)
        except (OutcomeUnknown, TimeoutError) as error:
            outcome, said = "in_doubt", str(error) or "no answer in time"
        # A cancelled task must not lose what it knows by now: the write goes on, and the cancellation after it.
        return await asyncio.shield(self._record(gone, prospect, outcome, said, now))

    async def _record(self, run: Run, prospect: Prospect, outcome: str, said: str, gone_at: datetime) -> Next:
        now = self._clock.now()
        step = prospect.candidate.step
        self._tell.called(run, step.name, outcome, said, (now - gone_at).total_seconds())
        row = LedgerRow(now, LedgerKind.OUTCOME, data={"outcome": outcome, "said": said})
        match outcome:
            case "in_doubt":
                return await self._move(run, RunEvent.DOUBT, row), None
            case "not_sent":
                run = await self._move(run, RunEvent.DID_NOT_HAPPEN, row)
                if run.goes >= GOES_MAX:
                    return await self._withdraw(run, prospect.playbook, Reason.NOT_SENT), None
                return run, now + LOOK_AGAIN
            case _:
                if isinstance(step, Rollback) and outcome == "done":
                    await self._forget(run, prospect.workload.release)
                return await self._move(run, RunEvent.OUTCOME, row), None

    async def _forget(self, run: Run, release: str) -> None:
        """Nobody shall roll back to what was just rolled back from."""
        await self._store.run(lambda ledger: ledger.releases.forget(run.target, release))

    async def _withdraw(self, run: Run, playbook: Playbook, reason: Reason) -> Run:
        """Nothing was sent, and nothing will be: neutral for the breaker; cancelled if the alert is over, else for people."""
        event = RunEvent.CANCEL if reason in NOT_OR_NO_LONGER_OURS else RunEvent.ESCALATE
        row = LedgerRow(self._clock.now(), LedgerKind.RESULT, data={"score": Score.NEUTRAL})
        return await self._end(run, event, reason, playbook, row)

    async def _later(self, run: Run, playbook: Playbook, delay: timedelta) -> Next:
        """A claimed run waits for a neighbour or for `resume`, until its deadline."""
        now = self._clock.now()
        if now < run.deadline:
            return run, now + delay
        return await self._withdraw(run, playbook, Reason.GAVE_UP), None

    # --- observe: what is in doubt ------------------------------------------------------------------------------------

    async def observe(self, run: Run) -> Next:
        """Find out whether a call without an outcome happened. What cannot be found out goes to a person, once."""
        if run.state is RunState.CALLED:
            said = "remediator stopped before it heard the outcome"
            row = LedgerRow(self._clock.now(), LedgerKind.OUTCOME, data={"outcome": "in_doubt", "said": said})
            run = await self._move(run, RunEvent.DOUBT, row)
        playbook = await self._playbook(run)
        gone = await self._last(run, LedgerKind.GO)
        step = _step_that_went(run, playbook, gone)
        observation = await self._world.observe(step, Workload(*gone.data["workload"]), gone.data["mark"])
        now = self._clock.now()
        if observation is None and now < run.deadline:
            return run, now + LOOK_AGAIN
        observation = observation or Observation(Happened.UNKNOWN, "the platform cannot be asked")
        patience_ends_at = gone.at + _timeout_of(step) + OBSERVE_FOR
        if observation.happened is Happened.YES:
            if isinstance(step, Rollback):
                await self._forget(run, gone.data["from"])
            return await self._move(run, RunEvent.HAPPENED, _observed(observation, now)), None
        if now < patience_ends_at:
            return run, min(now + LOOK_AGAIN, patience_ends_at)
        if observation.happened is Happened.NO and run.goes < GOES_MAX:
            return await self._move(run, RunEvent.DID_NOT_HAPPEN, _observed(observation, now)), None
        return await self._to_a_person(run, playbook, observation)

    async def _to_a_person(self, run: Run, playbook: Playbook | None, observation: Observation) -> Next:
        """Escalate once; hold the target until the alert ends, since nobody knows what is going on there."""
        now = self._clock.now()
        row = _observed(observation, now, told=True)
        episode = await self._store.run(lambda ledger: ledger.episodes.get(run.episode.id))
        if not episode.is_open:
            failed = LedgerRow(now, LedgerKind.RESULT, data={"score": Score.FAILURE})
            return await self._end(run, RunEvent.ESCALATE, Reason.IN_DOUBT, playbook, failed), None
        if run.reason is not Reason.IN_DOUBT:
            self._tell.log.warning("run.in_doubt", run=run.id, seen=observation.seen)

            def work(ledger: Ledger) -> tuple[Run, list[Message]]:
                doubtful = ledger.runs.move(run, RunEvent.DOUBT, now, row, reason=Reason.IN_DOUBT)
                return doubtful, self._post(ledger, doubtful, playbook, now)

            run, posted = await self._store.run(work)
            self._count_raised(run, posted)
        return run, now + IN_DOUBT_LOOK_AGAIN

    # --- verify -------------------------------------------------------------------------------------------------------

    async def verify(self, run: Run) -> Next:
        """Look until the checks hold and go on holding, or time is up; then succeed, climb, or escalate."""
        playbook = await self._playbook(run)
        last = await self._last(run, LedgerKind.OUTCOME, LedgerKind.OBSERVATION)
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
            return await self._end(run, RunEvent.VERIFIED, reason, playbook, *rows), None
        if probe is Probe.FAILS and run.rung + 1 < len(playbook.ladder):
            return await self._move(run, RunEvent.CLIMB, *rows), None
        reason = Reason.LADDER_EXHAUSTED if probe is Probe.FAILS else Reason.UNVERIFIED
        return await self._end(run, RunEvent.ESCALATE, reason, playbook, *rows), None

    async def _look(self, run: Run, playbook: Playbook) -> tuple[Probe, str]:
        """One look at the target as it is found now: a rollback has recreated it."""
        prospect = await self._prospect(run, playbook, run.rung)
        if prospect.candidate.workload is None:
            return Probe.UNKNOWN, f"{run.target} is not to be found now"
        episode = await self._store.run(lambda ledger: ledger.episodes.get(run.episode.id))
        return await look_once(self._world, playbook.verify, prospect.workload, episode)

    # --- what the stages share ----------------------------------------------------------------------------------------

    async def _playbook(self, run: Run) -> Playbook:
        """The playbook in the version that the run was admitted with (promise S13)."""
        if run.playbook_version not in self._read:
            text = await self._store.run(lambda ledger: ledger.runs.playbook(run.playbook_version))
            self._read[run.playbook_version] = self._parse(text.source, text.name)
        return self._read[run.playbook_version]

    async def _last(self, run: Run, *kinds: LedgerKind) -> LedgerRow:
        timeline = await self._store.run(lambda ledger: ledger.runs.timeline(run.id))
        return next(row for row in reversed(timeline) if row.kind in kinds)

    async def _move(self, run: Run, event: RunEvent, *rows: LedgerRow, reason: Reason = Reason.CLEAR) -> Run:
        now = self._clock.now()
        return await self._store.run(lambda ledger: ledger.runs.move(run, event, now, *rows, reason=reason))

    async def _end(self, run: Run, event: RunEvent, reason: Reason, playbook: Playbook | None, *rows: LedgerRow) -> Run:
        """The end of a run and what is told of it, in one transaction."""
        now = self._clock.now()

        def work(ledger: Ledger) -> tuple[Run, list[Message]]:
            ended = ledger.runs.move(run, event, now, *rows, reason=reason)
            ledger.runs.append(ended, LedgerRow(now, LedgerKind.END, data={"state": ended.state, "reason": reason}))
            return ended, self._post(ledger, ended, playbook, now)

        ended, posted = await self._store.run(work)
        self._tell.ended(ended)
        self._count_raised(ended, posted)
        return ended

    def _post(self, ledger: Ledger, run: Run, playbook: Playbook | None, now: datetime) -> list[Message]:
        """Put what is to be told of the run into the outbox."""
        posted = messages(run, playbook, ledger.runs.timeline(run.id))
        for message in posted:
            ledger.outbox.put(message, now)
        return posted

    def _count_raised(self, run: Run, posted: Sequence[Message]) -> None:
        if any(message.channel is Channel.ESCALATION for message in posted):
            self._tell.raised(severity_of(run))


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


def _step_that_went(run: Run, playbook: Playbook, gone: LedgerRow) -> Step:
    """The step as it was called: its labels were bound then, and a rollback's release is on record."""
    step = bind(playbook.ladder[run.rung].step, run.episode.labels)
    assert not isinstance(step, Unbound)
    return replace(step, to=gone.data["to"]) if isinstance(step, Rollback) else step


def _observed(observation: Observation, at: datetime, **more: object) -> LedgerRow:
    data = {"happened": observation.happened, "seen": observation.seen, **more}
    return LedgerRow(at, LedgerKind.OBSERVATION, data=data)


def _decision_row(decision: Decision, at: datetime, **more: object) -> LedgerRow:
    verdicts = {given.guard: [type(given.verdict).__name__.lower(), given.verdict.seen] for given in decision.verdicts}
    data: Facts = {
        "decision": decision.kind,
        "reason": decision.reason,
        "seen": decision.seen,
        "verdicts": verdicts,
        **more,
    }
    return LedgerRow(at, LedgerKind.DECISION, data=data)


def _timeout_of(step: object) -> timedelta:
    timeout = getattr(step, "timeout", timedelta())
    return timeout if isinstance(timeout, timedelta) else timedelta()


def _call_seconds(prospect: Prospect) -> float:
    step, instances = prospect.candidate.step, max(1, len(prospect.workload.instances))
    grace = ROLLBACK_GRACE if isinstance(step, Rollback) else CALL_GRACE
    return (instances * (_timeout_of(step) + grace)).total_seconds()
