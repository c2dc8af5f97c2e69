"""Commands, for what no engine runs: a configured argument list for each step (systemd, supervisord, Nomad). Never a shell.

Nothing of an alert reaches an argument list: labels choose among configured names.
"""

import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import assert_never

from remediator.core.redaction_rules import REDACTED
from remediator.core.step import (
    Check,
    Cordon,
    DeletePod,
    Diagnosis,
    Disk,
    Drain,
    Events,
    Evict,
    Exec,
    Healthy,
    Inspect,
    Logs,
    Prune,
    Restart,
    Rollback,
    RolloutAge,
    Scale,
    ServiceCheck,
    ServiceDiagnosis,
    ServiceStep,
    Start,
    Stats,
    Step,
    Stop,
    Uncordon,
)
from remediator.core.target import Health, Instance, Selection, Workload
from remediator.platforms import MaySend, always, ensure_may_send, expanded, readable
from remediator.platforms.processes import Command, Ended, run
from remediator.ports import (
    Evidence,
    Facts,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Reading,
    TransientError,
)
from remediator.settings import CommandTarget

FIELDS = frozenset({"name", "service"})
STEPS = ("restart", "start", "stop")


class CommandPlatform:
    """Runs the `status`, `logs` and `identity` of targets, which are trusted to change nothing."""

    name = "command"

    def __init__(self, targets: Mapping[str, CommandTarget]) -> None:
        self._targets = targets

    async def find(self, selection: Selection) -> Sequence[Workload]:
        """By `name` and `service`, which is the name where none is configured."""
        fields = selection.fields
        if not fields or not FIELDS.issuperset(fields):
            return ()
        return [
            await self._workload(name, target)
            for name, target in self._targets.items()
            if fields.get("name", name) == name
            and fields.get("service", service_name(name, target)) == service_name(name, target)
        ]

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """`logs` and `inspect` (which is `status`); what there is no command for says so."""
        if isinstance(diagnosis, ServiceDiagnosis):
            raise _unsupported(diagnosis)
        target = self._target(workload)
        match diagnosis:
            case Logs(tail, grep) if target.logs:
                lines = (await _asked(target.logs, target.timeout)).output.splitlines()
                kept = [line for line in lines[-tail:] if grep.casefold() in line.casefold()]
                return Evidence(diagnosis.name, readable("\n".join(kept)), {"logs.lines": float(len(kept))})
            case Inspect():
                ended = await _asked(target.status, target.timeout)
                text = readable(f"{shlex.join(target.status)}: exit status {ended.status}\n{ended.output}")
                return Evidence(diagnosis.name, text, {"inspect.exit_code": float(ended.status)})
            case Logs() | Stats() | Events() | Disk() | RolloutAge() | Exec():
                return Evidence(diagnosis.name, f"no command for {diagnosis.name} is configured for {workload.name}")
            case _:
                assert_never(diagnosis)

    async def check(self, check: Check, workload: Workload) -> Reading:
        if isinstance(check, ServiceCheck):
            return Reading(Probe.UNKNOWN, str(_unsupported(check)))
        match check:
            case Healthy():
                return await self._healthy(workload)
            case _:
                assert_never(check)

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The configured command. Raises PermanentError where there is none."""
        target = self._target(workload)
        match step:
            case Logs() if target.logs:
                return shlex.join(target.logs)
            case Inspect():
                return shlex.join(target.status)
            case _:
                return shlex.join(argv_of(step, workload.name, target))

    async def mark(self, step: Step, workload: Workload) -> Facts:
        """`identity`: what the configured command prints now; nothing where none is configured."""
        target = self._target(workload)
        argv_of(step, workload.name, target)
        return {"identity": await _identity(target)} if target.identity else {}

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        """By the identity: the same as before, or another one and the target in the state that the step leads to."""
        target = self._target(workload)
        argv_of(step, workload.name, target)
        if not target.identity or "identity" not in mark:
            return Observation(Happened.UNKNOWN, f"no identity is configured for {workload.name}, which would tell")
        was, now = mark["identity"], await _identity(target)
        if was == now:
            return Observation(Happened.NO, f"{workload.name} is still {now!r}")
        runs = (await _asked(target.status, target.timeout)).status == 0
        seen = f"{workload.name} was {was!r}, is {now!r}, and {'runs' if runs else 'does not run'}"
        return Observation(Happened.YES if runs is not isinstance(step, Stop) else Happened.UNKNOWN, seen)

    async def _workload(self, name: str, target: CommandTarget) -> Workload:
        ended = await _asked(target.status, target.timeout)
        instance = Instance(name, name, Health.HEALTHY if ended.status == 0 else Health.UNHEALTHY)
        configured = frozenset(step for step in STEPS if getattr(target, step))
        allow = expanded(target.allow) & configured
        return Workload(self.name, "command", name, service_name(name, target), allow, (instance,))

    async def _healthy(self, workload: Workload) -> Reading:
        try:
            target = self._target(workload)
            ended = await _asked(target.status, target.timeout)
        except (TransientError, PermanentError) as error:
            return Reading(Probe.UNKNOWN, str(error))
        probe = Probe.HOLDS if ended.status == 0 else Probe.FAILS
        return Reading(probe, f"{shlex.join(target.status)}: exit status {ended.status}: {readable(ended.output, 500)}")

    def _target(self, workload: Workload) -> CommandTarget:
        return target_of(workload, self._targets)


class CommandActuator:
    """Runs the configured command of a step, once. `may_send` is asked right before it is started."""

    def __init__(self, targets: Mapping[str, CommandTarget], may_send: MaySend = always) -> None:
        self._targets = targets
        self._may_send = may_send

    async def perform(self, step: Step, workload: Workload, mark: Facts) -> str:
        """A command that does not exist was never sent, but will not exist next time either: PermanentError, like exit 1."""
        target = target_of(workload, self._targets)
        command = Command(argv_of(step, workload.name, target), target.timeout)
        try:
            ended = await run(command, partial(ensure_may_send, self._may_send))
        except TimeoutError as error:
            raise OutcomeUnknown(f"{command} was killed after {target.timeout.total_seconds():g}s") from error
        if ended.status != 0:
            raise PermanentError(f"{command} exited with {ended.status}: {readable(ended.output, 500)}")
        return f"{command} exited with 0"

    async def diagnose_exec(self, diagnosis: Exec, workload: Workload) -> Evidence:
        """There is nothing to run commands in: what may run here is configured."""
        return Evidence(diagnosis.name, f"no command for {diagnosis.name} is configured for {workload.name}")


def service_name(name: str, target: CommandTarget) -> str:
    return target.service or name


def target_of(workload: Workload, targets: Mapping[str, CommandTarget]) -> CommandTarget:
    try:
        return targets[workload.name]
    except KeyError:
        raise PermanentError(f"{workload.name} is no configured command target") from None


def argv_of(step: Step | Diagnosis, name: str, target: CommandTarget) -> tuple[str, ...]:
    """The command of a step. Raises PermanentError if the platform has none, or none is configured."""
    if isinstance(step, ServiceStep | ServiceDiagnosis):
        raise _unsupported(step)
    match step:
        case Restart() | Start() | Stop():
            argv: tuple[str, ...] = getattr(target, step.name)
        case Rollback() | Exec() | Prune() | Scale() | Evict() | DeletePod() | Cordon() | Uncordon() | Drain():
            raise _unsupported(step)
        case Logs() | Stats() | Inspect() | Events() | Disk() | RolloutAge():
            argv = ()
        case _:
            assert_never(step)
    if not argv:
        raise PermanentError(f"no command for {step.name} is configured for {name}")
    return argv


def _unsupported(step: Step | Diagnosis | Check) -> PermanentError:
    return PermanentError(f"command targets do not offer {step.name}")


async def _asked(argv: Sequence[str], deadline: timedelta) -> Ended:
    """Run a command that only reads. Raises TransientError when it does not end in time, PermanentError if there is none."""
    command = Command(argv, deadline)
    try:
        return await run(command)
    except TimeoutError as error:
        raise TransientError(f"{command} did not end within {deadline.total_seconds():g}s") from error


async def _identity(target: CommandTarget) -> str:
    """With the exit status: `pidof` of what does not run prints nothing and exits with 1.

    A secret is not shown, and two of them must not look the same: then it is a hash of it that is compared.
    """
    ended = await _asked(target.identity, target.timeout)
    output = readable(ended.output, 500)
    if REDACTED in output:
        output = f"sha256:{sha256(ended.output.encode()).hexdigest()}"
    return f"{output} (exit status {ended.status})"
