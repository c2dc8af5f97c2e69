"""What every platform promises, on the real Docker engine, on commands and on Kubernetes: each test means the same on all."""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from remediator.core.postgres_step import TerminateIdle
from remediator.core.redis_step import RedisPing
from remediator.core.step import Healthy, Inspect, Logs, Restart, Rollback, Start, Step, Stop
from remediator.core.target import Health, Selection, Workload
from remediator.platforms.command import CommandActuator, CommandPlatform
from remediator.platforms.docker import DockerPlatform
from remediator.platforms.docker_actions import DockerActuator
from remediator.platforms.docker_engine import DockerEngine
from remediator.ports import Actuator, Happened, OutcomeUnknown, PermanentError, Platform, Probe, TransientError
from remediator.settings import CommandTarget
from tests.control_plane import own_control_plane
from tests.images import engine_url, eventually, own_containers
from tests.kubernetes_bench import Bench, deployment, fake_bench, real_bench

SOON = timedelta(seconds=1)

# A service in one file: what it is started with changes its identity, as a process id would.
SERVICE = """#!/bin/sh
cd "$(dirname "$0")"
start() { echo x >> starts; touch running; echo "web good serves"; echo "web good serves" >> log; }
case "$1" in
  start) start ;;
  stop) rm -f running ;;
  restart) rm -f running; start ;;
  status) test -f running ;;
  identity) test -f running && wc -l < starts ;;
  logs) cat log ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A platform with one running target that opted in to restart, start and stop, and how to take the target away.

    `service` selects it and `name` is how its platform calls it. `settle` waits for what comes after a call.
    """

    platform: Platform
    actuator: Actuator
    service: str
    name: str
    instance: str
    remove: Callable[[], Awaitable[object]]
    settle: Callable[[], Awaitable[object]]

    async def workload(self) -> Workload:
        (workload,) = await self.platform.find(Selection({"service": self.service}))
        return workload

    async def perform(self, step: Step) -> None:
        workload = await self.workload()
        await self.actuator.perform(step, workload, await self.platform.mark(step, workload))

    async def health(self) -> Probe:
        await self.settle()
        return (await self.platform.check(Healthy(), await self.workload())).probe


async def nothing_more() -> None:
    """When the call of this platform is over, so is what it does."""


@pytest.fixture
def on_docker() -> Iterator[Subject]:
    with own_containers() as containers:
        engine = DockerEngine(engine_url(), threads=2, timeout=timedelta(seconds=20))
        running = containers.run("web", Labels={"remediator.io/allow": "restart,start,stop"})
        name = containers.name("web")

        async def remove() -> None:
            containers.client.remove_container(running, force=True)

        yield Subject(DockerPlatform(engine), DockerActuator(engine), name, name, name, remove, nothing_more)
        engine.close()


@pytest.fixture
def on_commands(tmp_path: Path) -> Subject:
    script = tmp_path / "service.sh"
    script.write_text(SERVICE)
    script.chmod(0o755)
    commands = {word: (str(script), word) for word in ("start", "stop", "restart", "status", "identity", "logs")}
    targets = {"web": CommandTarget.model_validate({"allow": {"restart", "start", "stop"}, **commands})}
    (tmp_path / "running").touch()
    (tmp_path / "starts").write_text("x\n")
    (tmp_path / "log").write_text("web good serves\n")

    async def remove() -> None:
        targets.clear()

    return Subject(CommandPlatform(targets), CommandActuator(targets), "web", "web", "web", remove, nothing_more)


@pytest.fixture
async def on_fake_kubernetes(tmp_path: Path) -> AsyncIterator[Subject]:
    async with fake_bench(tmp_path) as (bench, cluster):
        subject = await subject_on(bench)
        cluster.logs[subject.instance.partition("/")[2], False] = "web good serves\n"
        yield subject


@pytest.fixture(scope="session")
def real_kubeconfig() -> Iterator[Path]:
    """KUBECONFIG's cluster, or a control plane made of what is in KUBEBUILDER_ASSETS."""
    with own_control_plane() as kubeconfig:
        yield kubeconfig


@pytest.fixture
async def on_real_kubernetes(real_kubeconfig: Path) -> AsyncIterator[Subject]:
    async with real_bench(real_kubeconfig) as bench:
        yield await subject_on(bench)


async def subject_on(bench: Bench) -> Subject:
    await bench.apply("deployments", deployment())
    name = (await bench.settle()).instances[0].name
    service = deployment()["metadata"]["name"]
    full_name = f"{bench.namespace}/{service}"
    remove = partial(bench.delete, "deployments", service)
    return Subject(bench.platform, bench.actuator, service, full_name, name, remove, bench.settle)


@pytest.fixture(
    params=[
        pytest.param("on_docker", marks=pytest.mark.docker),
        "on_commands",
        "on_fake_kubernetes",
        "on_real_kubernetes",
    ]
)
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


async def test_a_service_is_found_as_one_workload_with_what_its_owner_opted_in_to(subject: Subject) -> None:
    workload = await subject.workload()
    assert workload.id == f"{subject.platform.name}:{workload.kind}/{subject.name}"
    assert workload.allow == {"restart", "start", "stop"}
    assert [one.health for one in workload.instances] == [Health.HEALTHY]


async def test_a_workload_is_locked_with_each_of_its_instances_however_they_are_found(subject: Subject) -> None:
    workload = await subject.workload()
    assert workload.locks == tuple(sorted((workload.id, f"{subject.platform.name}:instance/{subject.instance}")))


@pytest.mark.parametrize("fields", [{}, {"service": "nobody"}, {"namespace": "shop"}, {"database": "shop"}])
async def test_a_selection_of_nothing_or_of_unknown_fields_finds_nothing(subject: Subject, fields: dict[str, str]) -> None:
    assert not await subject.platform.find(Selection(fields))


async def test_an_unknown_field_beside_a_known_one_finds_nothing(subject: Subject) -> None:
    assert not await subject.platform.find(Selection({"service": subject.service, "namespace": "shop"}))


async def test_fields_of_a_selection_are_an_and(subject: Subject) -> None:
    assert await subject.platform.find(Selection({"service": subject.service, "name": subject.service}))
    assert not await subject.platform.find(Selection({"service": subject.service, "name": "another"}))


async def test_a_restart_that_was_performed_is_observed(subject: Subject) -> None:
    workload, step = await subject.workload(), Restart(SOON)
    mark = await subject.platform.mark(step, workload)
    await subject.actuator.perform(step, workload, mark)
    assert (await subject.platform.observe(step, workload, mark)).happened is Happened.YES
    assert await subject.health() is Probe.HOLDS


async def test_a_restart_that_was_not_sent_is_observed_as_such(subject: Subject) -> None:
    workload, step = await subject.workload(), Restart(SOON)
    mark = await subject.platform.mark(step, workload)
    assert (await subject.platform.observe(step, workload, mark)).happened is Happened.NO


async def test_a_mark_survives_the_ledger(subject: Subject) -> None:
    workload, step = await subject.workload(), Restart(SOON)
    mark = json.loads(json.dumps(await subject.platform.mark(step, workload)))
    await subject.actuator.perform(step, workload, mark)
    assert (await subject.platform.observe(step, workload, mark)).happened is Happened.YES


async def test_what_was_stopped_is_not_healthy_until_it_is_started(subject: Subject) -> None:
    workload, step = await subject.workload(), Stop(SOON)
    mark = await subject.platform.mark(step, workload)
    await subject.actuator.perform(step, workload, mark)
    assert (await subject.platform.observe(step, workload, mark)).happened is Happened.YES
    assert await subject.health() is Probe.FAILS
    stopped = await subject.platform.mark(Start(), await subject.workload())
    await subject.perform(Start())
    assert (await subject.platform.observe(Start(), workload, stopped)).happened is Happened.YES
    assert await subject.health() is Probe.HOLDS


async def test_a_target_that_is_gone_is_a_permanent_error_and_not_healthy(subject: Subject) -> None:
    workload = await subject.workload()
    await subject.remove()
    with pytest.raises(PermanentError):
        await subject.actuator.perform(Restart(SOON), workload, {})
    with pytest.raises(PermanentError):
        await subject.platform.diagnose(Inspect(), workload)
    assert (await subject.platform.check(Healthy(), workload)).probe is not Probe.HOLDS
    assert not await subject.platform.find(Selection({"service": subject.service}))


async def test_logs_are_the_last_lines_that_contain_the_text(subject: Subject, request: pytest.FixtureRequest) -> None:
    if "on_real_kubernetes" in request.fixturenames:
        pytest.skip("a control plane without nodes keeps no logs")
    workload = await subject.workload()
    assert "serves" in (await subject.platform.diagnose(Logs(tail=5, grep="SERVES"), workload)).text
    assert (await subject.platform.diagnose(Logs(tail=5, grep="nothing like it"), workload)).text == ""


async def test_a_step_is_described_as_a_command_for_this_target(subject: Subject) -> None:
    described = subject.platform.describe(Restart(SOON), await subject.workload())
    assert "restart" in described
    assert "\n" not in described


async def test_steps_and_checks_of_data_services_are_not_offered(subject: Subject) -> None:
    workload = await subject.workload()
    with pytest.raises(PermanentError, match=r"postgres\.terminate_idle"):
        await subject.platform.mark(TerminateIdle(), workload)
    with pytest.raises(PermanentError, match=r"postgres\.terminate_idle"):
        await subject.actuator.perform(TerminateIdle(), workload, {})
    with pytest.raises(PermanentError, match=r"postgres\.terminate_idle"):
        subject.platform.describe(TerminateIdle(), workload)
    assert (await subject.platform.check(RedisPing(), workload)).probe is Probe.UNKNOWN


# --- Commands alone -----------------------------------------------------------------------------------------------------


def commands(*restart: str, **more: Any) -> tuple[CommandPlatform, CommandActuator]:
    target = {"status": ("true",), "restart": restart, "timeout": timedelta(seconds=0.5)} | more
    targets = {"job": CommandTarget.model_validate(target)}
    return CommandPlatform(targets), CommandActuator(targets)


JOB = Workload("command", "command", "job")


async def test_a_command_that_outlives_its_deadline_is_killed_with_its_children_and_in_doubt(tmp_path: Path) -> None:
    child = tmp_path / "child"
    _, actuator = commands("sh", "-c", f"sleep 600 & echo $! > {child}; wait")
    with pytest.raises(OutcomeUnknown, match="was killed after"):
        await actuator.perform(Restart(), JOB, {})
    eventually(lambda: not _runs(int(child.read_text())), "the child is dead")


async def test_a_command_has_ended_though_its_daemon_holds_the_output_open(tmp_path: Path) -> None:
    child = tmp_path / "child"
    _, actuator = commands("sh", "-c", f"sleep 600 & echo $! > {child}", timeout=timedelta(seconds=20))
    assert "exited with 0" in await actuator.perform(Restart(), JOB, {})
    daemon = int(child.read_text())
    assert _runs(daemon)
    os.kill(daemon, SIGKILL)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(("sh", "-c", "echo out of licences >&2; exit 4"), "with 4: out of licences"), (("no-such-program",), "cannot be run")],
)
async def test_a_command_that_fails_is_a_permanent_error_with_its_last_words(argv: tuple[str, ...], said: str) -> None:
    _, actuator = commands(*argv)
    with pytest.raises(PermanentError, match=said):
        await actuator.perform(Restart(), JOB, {})


async def test_only_the_end_of_an_endless_output_is_kept() -> None:
    platform, _ = commands(logs=("sh", "-c", "yes | head -n 300000; echo last"), timeout=timedelta(seconds=20))
    text = (await platform.diagnose(Logs(tail=1000), JOB)).text
    assert text.endswith("last")
    assert len(text) < 20_000


async def test_arguments_never_reach_a_shell() -> None:
    platform, _ = commands(logs=("echo", "$HOME; echo two"))
    assert (await platform.diagnose(Logs(), JOB)).text == "$HOME; echo two"


async def test_steps_without_a_command_are_not_allowed_whatever_was_opted_in_to() -> None:
    platform, actuator = commands("true", allow=frozenset({"*", "exec"}))
    (workload,) = await platform.find(Selection({"name": "job"}))
    assert workload.allow == {"restart"}
    with pytest.raises(PermanentError, match="no command for stop"):
        await actuator.perform(Stop(), workload, {})


async def test_a_command_target_has_no_releases_to_roll_back_to() -> None:
    platform, actuator = commands("true", allow=frozenset({"*"}))
    (workload,) = await platform.find(Selection({"name": "job"}))
    assert "rollback" not in workload.allow
    with pytest.raises(PermanentError, match="do not offer rollback"):
        await actuator.perform(Rollback("1"), workload, {})


async def test_without_an_identity_what_is_in_doubt_stays_so() -> None:
    platform, _ = commands("true")
    observed = await platform.observe(Restart(), JOB, await platform.mark(Restart(), JOB))
    assert observed.happened is Happened.UNKNOWN


async def test_a_status_that_does_not_answer_is_unknown_and_not_unhealthy() -> None:
    platform, _ = commands("true", status=("sleep", "600"))
    assert (await platform.check(Healthy(), JOB)).probe is Probe.UNKNOWN
    with pytest.raises(TransientError):
        await platform.find(Selection({"name": "job"}))


def _runs(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
