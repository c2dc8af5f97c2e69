"""The guards, in the order in which they speak (design, section 5). The first that does not pass decides.

The order is from "must nothing happen at all?" over "is it the right thing?" and "is it the right time?" to "who may
say so?": nobody is asked to approve what another guard refuses. A new guard is one file here and one line below; what it
looks at becomes a fact in `snapshot.py`.
"""

from collections.abc import Callable
from datetime import datetime

from remediator.core.guards.alive import alive
from remediator.core.guards.breaker import breaker
from remediator.core.guards.cooldown import cooldown
from remediator.core.guards.hold import hold
from remediator.core.guards.lock import lock
from remediator.core.guards.mode import mode
from remediator.core.guards.rate import rate
from remediator.core.guards.settle import settle
from remediator.core.guards.switch import switch
from remediator.core.guards.target import target
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Verdict

Guard = Callable[[Candidate, Snapshot, datetime], Verdict]

GUARDS: tuple[Guard, ...] = (
    alive,  # nothing to do for what is over, paused or not: nobody is woken for it when the pause was long
    switch,  # the kill switch comes before everything that could still be done
    # silence, maintenance: what people have said about now
    target,  # exactly one, opted in, not remediator itself
    hold,  # the cause before the symptom
    settle,  # give it a moment to pass by itself
    # corroborate: does Prometheus still say so?
    lock,  # one run per target
    cooldown,
    rate,
    breaker,
    # masking, blast_radius, storm: is it wise to go on like this?
    mode,  # what the operator allows
    # approval: last; nobody is asked about what another guard refuses
)
