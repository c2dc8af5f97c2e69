"""Gather: from the rungs of a playbook and the labels of an alert to the one candidate that is next, and its evidence.

`remediate` and `explain` both choose here, so that what is explained is what would be done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from remediator.core.alert import Episode
from remediator.core.guards.target import allows
from remediator.core.playbook import Playbook, Rung
from remediator.core.snapshot import Candidate, Found
from remediator.core.step import Prune, Rollback, RolloutAge, bind
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.core.verdict import Decision, DecisionKind, Reason
from remediator.ports import Evidence, PermanentError
from remediator.world import World


class History(Protocol):
    """What is on record of releases."""

    async def previous(self, workload: Workload) -> str:
        """The release that the workload ran before its current one, or empty."""
        ...

    async def releases(self) -> Sequence[str]:
        """Every release on record: what a rollback may return to."""
        ...

    async def rolled_out_at(self, workload: Workload) -> datetime | None:
        """When the workload's release took the place of another, or None if none did as far as is known."""
        ...


@dataclass(frozen=True, slots=True)
class Prospect:
    """What might be done: the candidate for the guards, and who would do it."""

    candidate: Candidate
    world: World

    @property
    def playbook(self) -> Playbook:
        return self.candidate.playbook

    @property
    def workload(self) -> Workload:
        """The target. Only a candidate that passed the target guard is sure to have exactly one."""
        assert self.candidate.workload is not None
        return self.candidate.workload

    @property
    def rung(self) -> Rung:
        return self.playbook.ladder[self.candidate.rung]

    @property
    def command_or_why_not(self) -> str:
        """What a person could type instead; where there is no command, the reason; empty for what would not be done to this
        target.
        """
        step, workload = self.candidate.step, self.candidate.workload
        if workload is None:
            return f"{step.name}, on a target that is not known now"
        if workload.protected or step.name in workload.lacks or not allows(workload, step):
            return ""
        if isinstance(step, Rollback) and not step.to:
            return ""
        try:
            return self.world.describe(step, workload)
        except PermanentError as error:
            return f"{step.name}: {error}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The rung that is next, what the guards say of it, and what was seen before they were heard."""

    prospect: Prospect
    decision: Decision
    evidence: Sequence[Evidence] = ()


PASSED_OVER = frozenset({Reason.NO_PREVIOUS_RELEASE, Reason.NOT_OFFERED})
"""Refusals of a rung that cannot be taken at all, here and now: the next one is."""
OF_ONE_RUNG = PASSED_OVER | {Reason.NOT_OPTED_IN}
"""Refusals that say nothing against another rung."""


async def look_up(world: World, history: History, run: str, episode: Episode, playbook: Playbook, number: int) -> Prospect:
    """Find the target of rung `number` (from 0), and fill in what its step leaves open."""
    rung = playbook.ladder[number]
    lookup = await world.find((rung.target or playbook.target).bind(episode.labels))
    bound = bind(rung.step, episode.labels)
    step, lookup = (rung.step, bound) if isinstance(bound, Unbound) else (bound, lookup)
    candidate = Candidate(run, episode, playbook, number, step, lookup, rung.approval_required)
    match step:
        case Rollback() if candidate.workload is not None:
            candidate = replace(candidate, step=replace(step, to=await history.previous(candidate.workload)))
        case Prune():
            candidate = replace(candidate, step=replace(step, keep=tuple(await history.releases())))
    return Prospect(candidate, world)


async def choose(
    look: Callable[[int], Awaitable[Prospect]],
    rungs: Sequence[int],
    decide: Callable[[Prospect], Awaitable[Decision]],
    diagnose: Callable[[Prospect, Decision], Awaitable[Sequence[Evidence]]],
) -> Choice | None:
    """The first of `rungs` that applies. Evidence is gathered only once the guards let it come to that.

    A rung whose condition does not hold cannot refuse for the others; a rollback to nothing, and a step that the target's
    platform does not have, are passed over. None if no rung applies.
    """
    evidence: Sequence[Evidence] | None = None
    passed_over: Choice | None = None
    for number in rungs:
        prospect = await look(number)
        decision = await decide(prospect)
        refused = decision.kind is DecisionKind.REFUSE
        if decision.kind is DecisionKind.WAIT or (refused and decision.reason not in OF_ONE_RUNG):
            return Choice(prospect, decision)
        if evidence is None and (prospect.rung.when is not None or not refused):
            evidence = await diagnose(prospect, decision)
        if not applies(prospect.rung, evidence or ()):
            continue
        if decision.reason not in PASSED_OVER:
            return Choice(prospect, decision, evidence or ())
        passed_over = passed_over or Choice(prospect, decision, evidence or ())
    return passed_over


async def gather(prospect: Prospect, history: History, now: datetime, *, acting: bool) -> Sequence[Evidence]:
    """The evidence that the playbook asks for, all of it at once, of the playbook's own target.

    `acting` says whether commands may be run for it. How old a roll-out is says the record of releases: a container
    is recreated for many reasons, and the record knows which of them brought another release.
    """
    labels, world = prospect.candidate.episode.labels, prospect.world
    subject = prospect.workload
    if prospect.rung.target is not None:
        found = await world.find(prospect.playbook.target.bind(labels))
        subject = found.workloads[0] if isinstance(found, Found) and len(found.workloads) == 1 else subject
    bound = [bind(diagnosis, labels) for diagnosis in prospect.playbook.diagnose]
    wanted = [diagnosis for diagnosis in bound if not isinstance(diagnosis, Unbound)]
    found_all = await asyncio.gather(*(world.diagnose(diagnosis, subject, acting=acting) for diagnosis in wanted))
    if not any(isinstance(diagnosis, RolloutAge) for diagnosis in wanted):
        return found_all
    rolled_out_at = await history.rolled_out_at(subject)
    age = {"rollout.age_seconds": (now - rolled_out_at).total_seconds()} if rolled_out_at else {}
    return [replace(each, numbers=age) if each.name == RolloutAge.name else each for each in found_all]


def applies(rung: Rung, evidence: Sequence[Evidence]) -> bool:
    """Whether the rung's condition holds for what was seen."""
    numbers = {name: value for each in evidence for name, value in each.numbers.items()}
    return rung.when is None or rung.when.holds(numbers)
