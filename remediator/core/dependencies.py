"""Who needs whom. Pure."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def cycle_in(needs: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """Services of which each needs the next one, from one of them to itself again; empty if there is no such cycle."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        cycle: Sequence[str] = error.args[1]
        return list(reversed(cycle))
    return ()
