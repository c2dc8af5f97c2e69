"""Who needs whom, and which alerts of what is needed hold back what needs it. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter

from remediator.core.matching import Matcher, MatchOp

CAUSES = (Matcher("severity", MatchOp.NOT_REGEX, "warning|info|none"), Matcher("slo", MatchOp.EQUAL, ""))
"""A warning is no outage. A service level that is missed is what was measured over hours, not how things are now."""
RECOVERY = timedelta(minutes=1)
"""Long enough for a scrape, an evaluation and the message that the alert of what depends on the cause is over."""
AFTERMATH = timedelta(hours=1)
"""For so long after a cause is over, what depends on it is repaired one at a time."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """`needs`: each service with all that it needs, directly or not. Empty: nobody said who needs whom.

    An episode of a service is its cause if it meets all of `causes`. `recovery` is the time in which a service may get well
    by itself once nothing that it needs is ill any more.
    """

    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    causes: tuple[Matcher, ...] = CAUSES
    recovery: timedelta = RECOVERY

    def needed_by(self, services: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(self.needs.get(service, frozenset()) for service in services))


def everything_needed(needs: Mapping[str, Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """Each service with all that it needs, directly or not. `needs` must have no cycle (see `cycle_in`)."""
    found: dict[str, frozenset[str]] = {}
    for service in TopologicalSorter(needs).static_order():
        direct = needs.get(service, ())
        found[service] = frozenset(direct).union(*(found[each] for each in direct))
    return found


def cycle_in(needs: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Services of which each needs the next one, from the first of them to itself again; empty if there is no such cycle."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        *circle, _ = reversed(error.args[1])
        first = circle.index(next(service for service in needs if service in circle))
        return [*circle[first:], *circle[:first], circle[first]]
    return ()
