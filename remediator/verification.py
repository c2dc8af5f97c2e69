"""Verify: look until the checks hold, and go on holding. Reads only."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from remediator.core.alert import Episode
from remediator.core.playbook import Need, Verification
from remediator.core.step import bind
from remediator.core.target import Workload
from remediator.core.template import Unbound
from remediator.ports import Clock, Probe
from remediator.world import World

POLL_SECONDS = (0.25, 5.0)
"""Often at first, when most recoveries show, and then less."""
POLL_SECONDS_MIN = 0.05

Seen = tuple[Probe, str]
"""What all checks together say, and what each saw, in words."""


async def watch(look: Callable[[], Awaitable[Seen]], verification: Verification, must_hold_by: datetime, clock: Clock) -> Seen:
    """HOLDS once the checks have held for `stable_for` without a break that began before `must_hold_by`; else the last look."""
    holding_since: datetime | None = None
    pause, pause_max = POLL_SECONDS
    while True:
        probe, seen = await look()
        now = clock.now()
        holding_since = (holding_since or now) if probe is Probe.HOLDS else None
        until = must_hold_by if holding_since is None else holding_since + verification.stable_for
        if now >= until:
            return probe, seen
        await asyncio.sleep(max(POLL_SECONDS_MIN, min(pause, (until - now).total_seconds())))
        pause = min(pause * 1.5, pause_max)


async def look_once(world: World, verification: Verification, workload: Workload, episode: Episode) -> Seen:
    """Every check, all at the same time."""
    bound = [bind(check, episode.labels) for check in verification.checks]
    if unbound := next((check.why for check in bound if isinstance(check, Unbound)), None):
        return Probe.UNKNOWN, unbound
    checks = [check for check in bound if not isinstance(check, Unbound)]
    readings = await asyncio.gather(*(world.check(check, workload, episode) for check in checks))
    return _together([reading.probe for reading in readings], verification.need), "; ".join(
        reading.seen for reading in readings
    )


def _together(probes: Sequence[Probe], need: Need) -> Probe:
    """ALL: a failure outweighs what is unknown, which outweighs success. ANY: one that holds is enough."""
    if need is Need.ANY:
        order = (Probe.HOLDS, Probe.UNKNOWN, Probe.FAILS)
    else:
        order = (Probe.FAILS, Probe.UNKNOWN, Probe.HOLDS)
    return next((probe for probe in order if probe in probes), Probe.UNKNOWN)
