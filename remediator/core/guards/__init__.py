"""The guards, in the order in which they speak (design, section 5). The first that does not pass decides.

The order is from "must nothing happen at all?" over "is it the right thing?" and "is it the right time?" to "who may
say so?": nobody is asked to approve what another guard refuses. A new guard is one file here and one line below; what it
looks at becomes a fact in `snapshot.py`.
"""

from collections.abc import Callable
from datetime import datetime

from remediator.core.guards.alive import alive
from remediator.core.guards.approval import approval
from remediator.core.guards.blast_radius import blast_radius
from remediator.core.guards.breaker import breaker
from remediator.core.guards.cooldown import cooldown
from remediator.core.guards.corroborate import corroborate
from remediator.core.guards.hold import hold
from remediator.core.guards.in_turn import in_turn
from remediator.core.guards.lock import lock
from remediator.core.guards.maintenance import maintenance
from remediator.core.guards.masking import masking
from remediator.core.guards.mode import mode
from remediator.core.guards.rate import rate
from remediator.core.guards.settle import settle
from remediator.core.guards.silence import silence
from remediator.core.guards.storm import storm
from remediator.core.guards.switch import switch
from remediator.core.guards.target import target
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Verdict

Guard = Callable[[Candidate, Snapshot, datetime], Verdict]

GUARDS: tuple[Guard, ...] = (
    alive,  # nothing to do for what is over, paused or not: nobody is woken for it when the pause was long
    switch,  # the kill switch comes before everything that could still be done
    silence,  # what people have said about now
    maintenance,
    target,  # exactly one, opted in, not remediator itself
    hold,  # the cause before the symptom
    settle,  # give it a moment to pass by itself
    corroborate,  # and then somebody else's word for it
    lock,  # one run per target
    in_turn,  # and one after the other what needs the same
    cooldown,
    rate,
    breaker,
    masking,  # is it wise to go on like this?
    blast_radius,
    storm,
    mode,  # what the operator allows
    approval,  # last: nobody is asked about what another guard refuses
)

WITHOUT_LOOKING: tuple[Guard, ...] = (alive, storm)
"""What is asked first while a storm blows: the rest would have 10,000 alerts ask the platforms about their targets."""

AFTER_THE_CLAIM: tuple[Guard, ...] = (alive, silence, maintenance, target, mode, approval)
"""What is asked again when a claimed run is taken up: the alert, its target's consent, people's. The others count what the
claim itself has put on record; `go` asks the switch."""
