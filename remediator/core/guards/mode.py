"""Mode guard: what the operator allows, by environment and by playbook. Pure.

The effective mode is the lowest of the global mode, the playbook's own, its override, and the ceiling of the step's risk.
"""

from datetime import datetime
from typing import assert_never

from remediator.core.playbook import Mode, lowest
from remediator.core.snapshot import Candidate, Policy, Snapshot
from remediator.core.step import Risk, Step
from remediator.core.verdict import Ask, Pass, Reason, Refuse, Suggest, Verdict


def mode(candidate: Candidate, snapshot: Snapshot, now: datetime) -> Verdict:
    effective, why = effective_mode(candidate.playbook.name, candidate.playbook.mode, candidate.step, snapshot.policy)
    if candidate.approval_required and effective is Mode.AUTO:
        effective, why = Mode.APPROVE, "the rung, which requires approval"
    match effective:
        case Mode.OFF:
            return Refuse(Reason.MODE_OFF, f"the mode is off, by {why}")
        case Mode.SUGGEST:
            return Suggest(Reason.MODE_SUGGEST, f"the mode is suggest, by {why}")
        case Mode.APPROVE:
            return Ask(Reason.APPROVAL_REQUIRED, f"the mode is approve, by {why}")
        case Mode.AUTO:
            return Pass(f"the mode is auto, by {why}")
        case _:
            assert_never(effective)


def effective_mode(name: str, own: Mode, step: Step, policy: Policy) -> tuple[Mode, str]:
    """The effective mode of a step of the playbook `name`, and which of the four set it."""
    said = [(policy.mode, "REMEDIATOR_MODE"), (own, "the playbook's mode")]
    said += [(mode, "REMEDIATOR_PLAYBOOK_MODES") for playbook, mode in policy.overrides if playbook == name]
    if step.risk is Risk.DESTRUCTIVE:
        said.append((Mode.APPROVE, "the step's risk: destructive is never automatic"))
    effective = lowest(mode for mode, _ in said)
    return effective, next(why for mode, why in said if mode is effective)
