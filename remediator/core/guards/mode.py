"""Mode guard: what the operator allows, by environment and by playbook. Pure.

The effective mode is the lowest of the global mode, the playbook's own, its override, the ceiling of the step's risk, the
rung's approval and, while the Watchdog alert is missing, `approve`. Whether somebody has approved is the next guard's.
"""

from datetime import datetime
from typing import assert_never

from remediator.core.modes import mode_now
from remediator.core.playbook import Mode
from remediator.core.snapshot import Candidate, Snapshot
from remediator.core.verdict import Pass, Reason, Refuse, Suggest, Verdict


def mode(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    effective, why = mode_now(candidate, snapshot.policy, snapshot.ledger.watchdog_heard_at, now)
    match effective:
        case Mode.OFF:
            return Refuse(Reason.MODE_OFF, f"the mode is off, by {why}")
        case Mode.SUGGEST:
            return Suggest(Reason.MODE_SUGGEST, f"the mode is suggest, by {why}")
        case Mode.APPROVE | Mode.AUTO:
            return Pass(f"the mode is {effective}, by {why}")
        case _:
            assert_never(effective)
