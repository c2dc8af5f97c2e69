"""What the operator allows for one step: the lowest of all that has a say, and which of them it was. Pure."""

from datetime import datetime, timedelta

from remediator.core.playbook import Mode, brief, lowest
from remediator.core.snapshot import Candidate, Policy
from remediator.core.step import Step
from remediator.core.step_parts import Risk


def effective_mode(name: str, own: Mode, step: Step, policy: Policy) -> tuple[Mode, str]:
    """The configured mode of a step of the playbook `name`, and which of the four set it (design, section 2)."""
    return _lowest_of(_configured(name, own, step, policy))


def mode_now(candidate: Candidate, policy: Policy, watchdog_heard_at: datetime | None, now: datetime) -> tuple[Mode, str]:
    """The same for one candidate at this moment: its rung may require approval, and a silent watchdog does."""
    playbook = candidate.playbook
    said = _configured(playbook.name, playbook.mode, candidate.step, policy)
    if candidate.approval_required:
        said.append((Mode.APPROVE, "the rung, which requires approval"))
    if silent := watchdog_missing(watchdog_heard_at, policy, now):
        said.append((Mode.APPROVE, f"the dead man's switch: {silent}"))
    return _lowest_of(said)


def needs_approval(candidate: Candidate, policy: Policy, watchdog_heard_at: datetime | None, now: datetime) -> bool:
    """Whether only a person's approval allows the step at this moment."""
    return mode_now(candidate, policy, watchdog_heard_at, now)[0] is not Mode.AUTO


def watchdog_missing(heard_at: datetime | None, policy: Policy, now: datetime) -> str:
    """Why nobody can be sure that alerts still arrive, or empty. A clock that was set back makes nothing fresh."""
    if policy.watchdog_within is None:
        return ""
    if heard_at is None:
        return "the Watchdog alert was never heard of"
    silent_for = abs(now - heard_at)
    if silent_for <= policy.watchdog_within:
        return ""
    return f"the Watchdog alert was last heard of {brief(timedelta(seconds=int(silent_for.total_seconds())))} ago"


def _configured(name: str, own: Mode, step: Step, policy: Policy) -> list[tuple[Mode, str]]:
    said = [(policy.mode, "REMEDIATOR_MODE"), (own, "the playbook's mode")]
    said += [(mode, "REMEDIATOR_PLAYBOOK_MODES") for playbook, mode in policy.overrides if playbook == name]
    if step.risk is Risk.DESTRUCTIVE:
        said.append((Mode.APPROVE, "the step's risk: destructive is never automatic"))
    return said


def _lowest_of(said: list[tuple[Mode, str]]) -> tuple[Mode, str]:
    effective = lowest(mode for mode, _ in said)
    return effective, next(why for mode, why in said if mode is effective)
