"""Gather: from a rung of a playbook and the labels of an alert to a candidate with its target looked up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from remediator.core.alert import Episode
from remediator.core.playbook import Playbook, Rung
from remediator.core.snapshot import Candidate
from remediator.core.step import Prune, Rollback, bind
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.ports import Evidence
from remediator.world import World


class History(Protocol):
    """What is on record of releases."""

    async def previous(self, workload: Workload) -> str:
        """The release that the workload ran before its current one, or empty."""
        ...

    async def releases(self) -> Sequence[str]:
        """Every release on record: what a rollback may return to."""
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
    def command(self) -> str:
        """What a person could type instead. Raises PermanentError if what it needs is not configured."""
        step = self.candidate.step
        return self.world.platform_of(step, self.workload).describe(step, self.workload)


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


def applies(rung: Rung, evidence: Sequence[Evidence]) -> bool:
    """Whether the rung's condition holds for what was seen."""
    numbers = {name: value for each in evidence for name, value in each.numbers.items()}
    return rung.when is None or rung.when.holds(numbers)
