"""Docker against a real engine: selecting, evidence, rollback, what is in doubt, and an engine that does not answer."""

import asyncio
import gc
import os
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any

import pytest

from remediator.core.guards.blast_radius import blast_radius
from remediator.core.snapshot import Found
from remediator.core.step import (
    Disk,
    Events,
    Exec,
    Healthy,
    Inspect,
    Logs,
    Prune,
    Restart,
    Rollback,
    RolloutAge,
    Start,
    Stats,
    Stop,
)
from remediator.core.target import Health, Selection, Workload
from remediator.core.verdict import Pass, Verdict, Wait
from remediator.platforms.docker import DockerPlatform
from remediator.platforms.docker_actions import DockerActuator
from remediator.platforms.docker_container import parked_name
from remediator.platforms.docker_engine import Client, DockerEngine, own_container_id, request
from remediator.ports import Happened, OutcomeUnknown, PermanentError, Probe, TransientError
from tests import waiting
from tests.builders import NOW, candidate, snapshot
from tests.docker_bench import ALLOW_ALL, Bench, Between, bench_on, standing_between
from tests.images import Containers, engine_url, eventually, image_id, own_containers

pytestmark = pytest.mark.docker

SOON = timedelta(seconds=1)


@pytest.fixture
def containers() -> Iterator[Containers]:
    with own_containers() as own:
        yield own


@pytest.fixture
def bench(containers: Containers) -> Iterator[Bench]:
    engine = DockerEngine(engine_url(), threads=3, timeout=timedelta(seconds=20))
    yield Bench(containers, DockerPlatform(engine), DockerActuator(engine, settle=timedelta(seconds=1)))
    engine.close()


# --- Selecting ----------------------------------------------------------------------------------------------------------


async def test_containers_of_a_compose_service_are_one_workload_the_stopped_ones_too(bench: Bench) -> None:
    bench.containers.run("api-1", Labels=bench.compose("api", 1))
    bench.containers.run("api-2", start=False, Labels=bench.compose("api", 2))
    bench.containers.run("db-1", Labels=bench.compose("db"))
    workload = await bench.one(project=bench.containers.unique, service="api")
    assert workload.id == f"docker:service/{bench.containers.unique}/api"
    assert [one.health for one in workload.instances] == [Health.HEALTHY, Health.STOPPED]
    assert len(await bench.platform.find(Selection({"project": bench.containers.unique}))) == 2


async def test_a_name_selects_one_container_of_a_service_that_has_several_and_shares_its_lock(bench: Bench) -> None:
    bench.containers.run("api-1", start=False, Labels=bench.compose("api", 1))
    bench.containers.run("api-10", start=False, Labels=bench.compose("api", 10))
    workload, service = await bench.one(name=bench.containers.name("api-1")), await bench.one(project=bench.containers.unique)
    assert (workload.kind, [one.name for one in workload.instances]) == ("container", [bench.containers.name("api-1")])
    assert set(workload.locks) & set(service.locks) == {f"docker:instance/{bench.containers.name('api-1')}"}


async def test_one_container_of_a_service_is_taken_down_only_while_enough_of_its_peers_are_healthy(bench: Bench) -> None:
    ids = [bench.containers.run(f"api-{number}", Labels=bench.compose("api", number)) for number in (1, 2, 3)]

    async def verdict(*in_flight: str) -> Verdict:
        found = await bench.one(name=bench.containers.name("api-1"))
        assert [one.name for one in found.peers] == [bench.containers.name(f"api-{number}") for number in (2, 3)]
        return blast_radius(candidate(lookup=Found((found,))), snapshot(in_flight=frozenset(in_flight)), NOW)

    assert isinstance(await verdict(), Pass)
    assert isinstance(await verdict(bench.containers.name("api-2")), Wait)
    bench.containers.client.pause(ids[1])  # which answers nobody: unhealthy
    waits = await verdict()
    assert (type(waits), waits.seen) == (Wait, "only 1 of 3 instances would stay healthy; 2 must")
    bench.containers.client.unpause(ids[1])
    bench.containers.client.stop(ids[2], timeout=0)
    assert isinstance(await verdict(), Wait)
    bench.containers.client.kill(ids[0])  # now it is the one that is down, and nobody loses anything
    assert isinstance(await verdict(), Pass)
    assert not (await bench.one(service="api", project=bench.containers.unique)).peers


@pytest.mark.parametrize("start", [True, False])
async def test_the_only_container_of_a_service_is_that_service_by_whichever_name(bench: Bench, start: bool) -> None:
    bench.containers.run("api-1", start=start, Labels=bench.compose("api"))
    bench.containers.run("api-run-5", start=False, Labels=bench.compose("api", oneoff="True"))
    by_name, by_service = await bench.one(name=bench.containers.name("api-1")), await bench.one(project=bench.containers.unique)
    assert by_name == by_service
    assert by_name.id == f"docker:service/{bench.containers.unique}/api"


async def test_the_owners_service_label_replaces_the_name_of_compose(bench: Bench) -> None:
    service = bench.containers.name("payments")
    bench.containers.run("api-1", start=False, Labels=bench.compose("api") | {"remediator.io/service": service})
    assert (await bench.one(service=service)).service == service
    assert not await bench.platform.find(Selection({"service": "api", "project": bench.containers.unique}))


async def test_one_off_containers_and_those_a_rollback_put_aside_are_nobodys_instances(bench: Bench) -> None:
    running = bench.containers.run("api-1", Labels=bench.compose("api"))
    bench.containers.run("api-run-5", start=False, Labels=bench.compose("api", oneoff="True"))
    bench.containers.run(f"api-1-remediator-old-{'0' * 12}", start=False, Labels=bench.compose("api"))
    workload = await bench.one(project=bench.containers.unique)
    assert [one.id for one in workload.instances] == [running]


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        (("restart, start", "restart"), {"restart"}),
        (("*", "restart,redis.flush"), {"restart"}),
        (("*", "*"), {"*"}),
        (("restart", ""), set()),
    ],
)
async def test_a_service_allows_what_every_one_of_its_containers_allows(
    bench: Bench, labels: tuple[str, str], allowed: set[str]
) -> None:
    for number, allow in enumerate(labels):
        opted_in = bench.compose("api", number) | {"remediator.io/allow": allow}
        bench.containers.run(f"api-{number}", start=False, Labels=opted_in)
    assert (await bench.one(project=bench.containers.unique)).allow == allowed


async def test_remediator_itself_and_what_is_labelled_so_are_protected(bench: Bench) -> None:
    own = bench.containers.run("self", start=False)
    bench.containers.run("proxy", start=False, Labels={"remediator.io/protected": "the socket proxy"} | ALLOW_ALL)
    aware = DockerPlatform(bench.platform._engine, own_container_id=own[:12])
    (itself,) = await aware.find(Selection({"name": bench.containers.name("self")}))
    assert itself.protected == "is remediator itself"
    proxy = await bench.one(name=bench.containers.name("proxy"))
    assert "the socket proxy" in proxy.protected
    with pytest.raises(PermanentError, match="socket proxy"):
        await bench.actuator.perform(Start(), proxy, {})
    assert bench.containers.told(bench.containers.name("proxy"))["State"]["Status"] == "created"


def test_the_own_container_is_known_by_its_mounts_or_else_its_host_name(tmp_path: Path) -> None:
    mountinfo, hostname = tmp_path / "mountinfo", tmp_path / "hostname"
    mountinfo.write_text(f"733 715 254:1 /var/lib/docker/containers/{'ab' * 32}/hosts /etc/hosts rw - ext4 /dev/vda1 rw\n")
    assert own_container_id(mountinfo, hostname) == "ab" * 32
    mountinfo.write_text("21 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    assert own_container_id(mountinfo, hostname) == ""
    hostname.write_text("4f66ad9f0b2e\n")
    assert own_container_id(mountinfo, hostname) == "4f66ad9f0b2e"


async def test_the_inventory_is_of_what_opted_in_with_what_it_runs(bench: Bench) -> None:
    bench.containers.run("in", "v1", start=False, Labels=ALLOW_ALL)
    bench.containers.run("out", "v1", start=False)
    inventory = {one.name: one.release for one in await bench.platform.inventory()}
    assert inventory[bench.containers.name("in")] == image_id(bench.containers.client, "v1")
    assert bench.containers.name("out") not in inventory


# --- Looking ------------------------------------------------------------------------------------------------------------

CHECKED = {"Test": ["CMD", "test", "-e", "/tmp/well"], "Interval": 200_000_000, "Timeout": 2_000_000_000, "Retries": 1}


async def test_health_is_the_containers_own_check_while_it_runs(bench: Bench) -> None:
    running = bench.containers.run("web", Healthcheck=CHECKED | {"StartPeriod": 60_000_000_000})
    workload = await bench.one(name=bench.containers.name("web"))
    starting = await bench.platform.check(Healthy(), workload)
    assert (starting.probe, "starting" in starting.seen) == (Probe.FAILS, True)
    await bench.actuator.diagnose_exec(Exec(("touch", "/tmp/well")), workload)
    eventually(lambda: bench.containers.told(running)["State"]["Health"]["Status"] == "healthy", "healthy")
    assert (await bench.platform.check(Healthy(), workload)).probe is Probe.HOLDS
    await bench.actuator.diagnose_exec(Exec(("rm", "/tmp/well")), workload)
    eventually(lambda: bench.containers.told(running)["State"]["Health"]["Status"] == "unhealthy", "unhealthy")
    unhealthy = await bench.platform.check(Healthy(), workload)
    assert (unhealthy.probe, "unhealthy" in unhealthy.seen) == (Probe.FAILS, True)
    bench.containers.client.pause(running)
    assert (await bench.one(name=bench.containers.name("web"))).instances[0].health is Health.UNHEALTHY


async def test_logs_lose_their_colours_and_control_characters(bench: Bench) -> None:
    script = r"printf '\033[31mred\033[0m\a alert\n'; printf 'other\n'; printf '\377\n'"
    bench.containers.run("web", Cmd=["sh", "-c", script])
    workload = await bench.one(name=bench.containers.name("web"))
    eventually(lambda: b"other" in bench.containers.client.logs(bench.containers.name("web")), "logged")
    evidence = await bench.platform.diagnose(Logs(tail=10), workload)
    assert "red alert\n" in evidence.text
    assert "\ufffd" in evidence.text
    assert "other" not in (await bench.platform.diagnose(Logs(tail=10, grep="RED"), workload)).text


async def test_stats_are_numbers_of_the_running_container(bench: Bench) -> None:
    bench.containers.run("web", host={"Memory": 64 * 2**20})
    evidence = await bench.platform.diagnose(Stats(), await bench.one(name=bench.containers.name("web")))
    assert 0 < evidence.numbers["stats.memory_ratio"] < 0.5
    assert evidence.numbers["stats.pids"] >= 1
    assert evidence.numbers["stats.cpu_percent"] >= 0


async def test_what_a_container_writes_is_counted_by_the_engine(bench: Bench) -> None:
    bench.containers.run("web", Cmd=["sh", "-c", "head -c 5000000 /dev/zero > /big; sleep 600"])
    workload = await bench.one(name=bench.containers.name("web"))

    async def has_written() -> bool:
        return (await bench.platform.diagnose(Disk(), workload)).numbers["disk.target_bytes"] >= 5_000_000

    await waiting.eventually(has_written)
    evidence = await bench.platform.diagnose(Disk(), workload)
    assert f"{bench.containers.name('web')} has written 4.8 MiB outside of its volumes" in evidence.text
    assert evidence.numbers["disk.containers_bytes"] >= evidence.numbers["disk.target_bytes"]
    assert evidence.numbers["disk.images_bytes"] >= 100_000, "the image of the container at least"


async def test_inspection_tells_why_a_container_ended(bench: Bench) -> None:
    broken = bench.containers.run("web", "broken")
    eventually(lambda: bench.containers.told(broken)["State"]["Status"] == "exited", "exited")
    evidence = await bench.platform.diagnose(Inspect(), await bench.one(name=bench.containers.name("web")))
    assert evidence.numbers == {"inspect.exit_code": 3.0, "inspect.oom_killed": 0.0, "inspect.restart_count": 0.0}
    assert "exit code 3" in evidence.text


async def test_events_end_at_the_engines_now_and_leave_health_checks_out(bench: Bench) -> None:
    bench.containers.run("web", Healthcheck=CHECKED)
    workload = await bench.one(name=bench.containers.name("web"))
    await bench.actuator.perform(Restart(SOON), workload, {})
    evidence = await bench.platform.diagnose(Events(), workload)
    assert "restart" in evidence.text
    assert "exec" not in evidence.text
    assert evidence.numbers == {"events.die": 1.0, "events.oom": 0.0}


async def test_the_age_of_a_rollout_is_that_of_the_youngest_container(bench: Bench) -> None:
    bench.containers.run("api-1", Labels=bench.compose("api", 1))
    evidence = await bench.platform.diagnose(RolloutAge(), await bench.one(project=bench.containers.unique))
    assert 0 < evidence.numbers["rollout.age_seconds"] < 60


async def test_several_instances_are_told_apart_and_the_worst_gives_the_number(bench: Bench) -> None:
    bench.containers.run("api-1", Labels=bench.compose("api", 1))
    ended = bench.containers.run("api-2", "broken", Labels=bench.compose("api", 2))
    eventually(lambda: bench.containers.told(ended)["State"]["Status"] == "exited", "exited")
    evidence = await bench.platform.diagnose(Inspect(), await bench.one(project=bench.containers.unique))
    assert evidence.numbers["inspect.exit_code"] == 3
    assert evidence.text.count("==> ") == 2


# --- Exec: a write call -------------------------------------------------------------------------------------------------


async def test_the_reading_side_does_not_exec(bench: Bench) -> None:
    bench.containers.run("web")
    workload = await bench.one(name=bench.containers.name("web"))
    evidence = await bench.platform.diagnose(Exec(("touch", "/tmp/a b")), workload)
    assert f"docker exec {bench.containers.name('web')} touch '/tmp/a b'" in evidence.text
    seen = await bench.actuator.diagnose_exec(Exec(("ls", "/tmp")), workload)
    assert "a b" not in seen.text


async def test_exec_passes_arguments_as_they_are_and_tells_the_exit_code(bench: Bench) -> None:
    bench.containers.run("web")
    workload = await bench.one(name=bench.containers.name("web"))
    evidence = await bench.actuator.diagnose_exec(Exec(("echo", "$HOME; ls")), workload)
    assert "$HOME; ls" in evidence.text
    assert evidence.numbers == {"exec.exit_code": 0.0}
    with pytest.raises(PermanentError, match="exited with 1"):
        await bench.actuator.perform(Exec(("false",)), workload, {})
    with pytest.raises(PermanentError, match="nosuch"):
        await bench.actuator.perform(Exec(("nosuch",)), workload, {})


async def test_exec_that_outlives_its_deadline_is_in_doubt_whether_it_is_silent_or_not(bench: Bench) -> None:
    bench.containers.run("web")
    workload = await bench.one(name=bench.containers.name("web"))
    for script in ("sleep 30", "while true; do echo still here; sleep 0.1; done"):
        begun = monotonic()
        with pytest.raises(OutcomeUnknown, match="may still run"):
            await bench.actuator.perform(Exec(("sh", "-c", script), timeout=SOON), workload, {})
        assert monotonic() - begun < 5
    step = Exec(("sleep", "30"))
    assert (
        await bench.platform.observe(step, workload, await bench.platform.mark(step, workload))
    ).happened is Happened.UNKNOWN


async def test_only_the_end_of_a_long_output_is_kept(bench: Bench) -> None:
    bench.containers.run("web")
    script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done"
    seen = await bench.actuator.diagnose_exec(Exec(("sh", "-c", script)), await bench.one(name=bench.containers.name("web")))
    assert len(seen.text) < 17_000
    assert seen.text.endswith("line 39999")


# --- Restart, start, stop -----------------------------------------------------------------------------------------------


async def test_a_restart_that_fails_half_way_says_which_were_restarted(bench: Bench) -> None:
    bench.containers.run("api-1", Labels=bench.compose("api", 1))
    second = bench.containers.run("api-2", Labels=bench.compose("api", 2))
    workload = await bench.one(project=bench.containers.unique)
    mark = await bench.platform.mark(Restart(SOON), workload)
    bench.containers.client.remove_container(second, force=True)
    with pytest.raises(PermanentError, match=rf"restarted {bench.containers.name('api-1')}"):
        await bench.actuator.perform(Restart(SOON), workload, mark)
    observed = await bench.platform.observe(Restart(SOON), workload, mark)
    assert observed.happened is Happened.UNKNOWN
    assert f"{bench.containers.name('api-2')} is gone" in observed.seen


async def test_a_container_that_cannot_start_is_a_permanent_error(bench: Bench) -> None:
    bench.containers.run("web", start=False, Cmd=["/no/such/program"])
    with pytest.raises(PermanentError, match="no such file"):
        await bench.actuator.perform(Start(), await bench.one(name=bench.containers.name("web")), {})


async def test_start_leaves_what_runs_alone(bench: Bench) -> None:
    runs = bench.containers.run("api-1", Labels=bench.compose("api", 1))
    bench.containers.run("api-2", start=False, Labels=bench.compose("api", 2))
    workload, before = await bench.one(project=bench.containers.unique), bench.containers.told(runs)["State"]["StartedAt"]
    assert await bench.actuator.perform(Start(), workload, {}) == f"started {bench.containers.name('api-2')}"
    assert bench.containers.told(runs)["State"]["StartedAt"] == before


async def test_commands_name_every_container(bench: Bench) -> None:
    bench.containers.run("api-1", start=False, Labels=bench.compose("api", 1))
    bench.containers.run("api-2", start=False, Labels=bench.compose("api", 2))
    workload, name = await bench.one(project=bench.containers.unique), bench.containers.name
    assert bench.platform.describe(Restart(), workload) == f"docker restart -t 10 {name('api-1')} {name('api-2')}"
    assert bench.platform.describe(Stop(SOON), workload) == f"docker stop -t 1 {name('api-1')} {name('api-2')}"
    rollback = bench.platform.describe(Rollback("sha256:abc"), workload)
    assert "sha256:abc" in rollback
    assert f"docker compose -p {bench.containers.unique} up -d --no-deps api" in rollback


# --- Rollback -----------------------------------------------------------------------------------------------------------


async def rolled_back(bench: Bench, to: str, **fields: str) -> tuple[Workload, Rollback, Any]:
    """Find the workload, mark it, and roll it back to an image of `RECIPES`."""
    workload, step = await bench.one(**fields), Rollback(image_id(bench.containers.client, to))
    mark = await bench.platform.mark(step, workload)
    await bench.actuator.perform(step, workload, mark)
    return workload, step, mark


async def test_a_rollback_keeps_all_that_was_asked_for_and_takes_the_rest_from_the_older_image(bench: Bench) -> None:
    network, shared = bench.containers.network("front", "10.213.77.0/24"), bench.containers.network("back")
    labels = bench.compose("api") | ALLOW_ALL | {"com.docker.compose.image": image_id(bench.containers.client, "v2")}
    old = bench.containers.run(
        "api-1",
        "v2",
        start=False,
        Env=["PASSWORD=secret", "VERSION=overridden"],
        Labels=labels,
        ExposedPorts={"9000/tcp": {}},
        StopTimeout=2,
        host={
            "NetworkMode": network,
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]},
            "Memory": 64 * 2**20,
            "CapAdd": ["NET_ADMIN"],
            "Tmpfs": {"/run": "size=1m"},
        },
        NetworkingConfig={
            "EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": "10.213.77.7"}, "Aliases": ["api", "backend"]}}
        },
    )
    bench.containers.client.connect_container_to_network(old, shared, aliases=["api-behind"])
    bench.containers.client.start(old)
    before = bench.containers.told(old)
    await bench.actuator.diagnose_exec(Exec(("sh", "-c", "echo kept > /data/file")), await bench.one(name=before["Name"][1:]))

    workload, step, mark = await rolled_back(bench, "v1", project=bench.containers.unique)

    after = bench.containers.told(bench.containers.name("api-1"))
    assert (after["Id"] != old, after["Image"]) == (True, step.to)
    env = dict(variable.split("=", 1) for variable in after["Config"]["Env"])
    assert env == {"PATH": "/bin", "PASSWORD": "secret", "VERSION": "overridden", "ONLY_IN_V1": "yes"}
    assert after["Config"]["Labels"]["release"] == "one"
    assert after["Config"]["Labels"]["com.docker.compose.image"] == step.to
    kept = ("com.docker.compose.project", "com.docker.compose.service", "remediator.io/allow", "remediator-test")
    assert {key: after["Config"]["Labels"][key] for key in kept} == {key: before["Config"]["Labels"][key] for key in kept}
    assert after["Config"]["WorkingDir"] == "/www"
    assert after["Config"]["StopTimeout"] == 2
    assert set(after["Config"]["ExposedPorts"]) == {"8080/tcp", "9000/tcp"}
    assert after["Config"]["Hostname"] == after["Id"][:12]
    changed = {key for key, value in before["HostConfig"].items() if after["HostConfig"].get(key) != value}
    assert changed <= {"Binds"}, "only the volume, which has a name now"
    joined = after["NetworkSettings"]["Networks"]
    assert joined[network]["IPAddress"] == "10.213.77.7"
    assert {"api", "backend"} <= set(joined[network]["Aliases"])
    assert old[:12] not in joined[network]["Aliases"]
    assert "api-behind" in joined[shared]["Aliases"]
    seen = await bench.actuator.diagnose_exec(Exec(("cat", "/data/file")), await bench.one(project=bench.containers.unique))
    assert "kept" in seen.text
    assert bench.containers.all_names() == {bench.containers.name("api-1")}
    assert (await bench.platform.observe(step, workload, mark)).happened is Happened.YES


async def test_what_was_overridden_to_the_images_disadvantage_stays_so(bench: Bench) -> None:
    bench.containers.run(
        "web", "v2", Entrypoint=["sh", "-c"], Cmd=["sleep 600"], WorkingDir="/tmp", Hostname="own", StopTimeout=0
    )
    await rolled_back(bench, "v1", name=bench.containers.name("web"))
    config = bench.containers.told(bench.containers.name("web"))["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["sh", "-c"], ["sleep 600"])
    assert (config["WorkingDir"], config["Hostname"], config["StopTimeout"]) == ("/tmp", "own", 0)


async def test_a_release_that_does_not_stay_up_is_undone(bench: Bench) -> None:
    old = bench.containers.run("web", "v2", StopTimeout=1)
    workload, step = await bench.one(name=bench.containers.name("web")), Rollback(image_id(bench.containers.client, "broken"))
    with pytest.raises(PermanentError, match=r"old container is back, running.*no configuration"):
        await bench.actuator.perform(step, workload, await bench.platform.mark(step, workload))
    told = bench.containers.told(bench.containers.name("web"))
    assert (told["Id"], told["State"]["Status"]) == (old, "running")
    assert bench.containers.all_names() == {bench.containers.name("web")}


@pytest.mark.parametrize("to", ["", f"sha256:{'0' * 64}"])
async def test_a_rollback_to_nowhere_touches_nothing(bench: Bench, to: str) -> None:
    running = bench.containers.run("web", "v2")
    workload, before = await bench.one(name=bench.containers.name("web")), bench.containers.told(running)["State"]
    with pytest.raises(PermanentError, match=r"no longer on this engine|no other release"):
        await bench.actuator.perform(Rollback(to), workload, {})
    assert bench.containers.told(running)["State"] == before
    assert bench.containers.all_names() == {bench.containers.name("web")}


async def test_a_container_that_removes_itself_is_not_rolled_back(bench: Bench) -> None:
    running = bench.containers.run("web", "v2", host={"AutoRemove": True})
    with pytest.raises(PermanentError, match="--rm"):
        await rolled_back(bench, "v1", name=bench.containers.name("web"))
    assert bench.containers.told(running)["State"]["Running"]


@pytest.mark.parametrize("way", ["finish", "undo"])
async def test_a_half_done_rollback_tells_a_person_the_commands_that_finish_or_undo_it(bench: Bench, way: str) -> None:
    old, name = bench.containers.run("web", "v2", StopTimeout=1), bench.containers.name("web")
    workload, step = await bench.one(name=name), Rollback(image_id(bench.containers.client, "v1"))
    mark = await bench.platform.mark(step, workload)
    new = bench.containers.run(f"web-remediator-new-{old[:12]}", "v1", start=False)
    assert (await bench.platform.observe(step, workload, mark)).happened is Happened.NO, "nothing that runs was touched yet"
    bench.containers.client.stop(old, timeout=1)
    bench.containers.client.rename(old, parked_name(name, old))
    observed = await bench.platform.observe(step, workload, mark)
    assert observed.happened is Happened.UNKNOWN
    if which("docker") is None:
        pytest.skip("no docker command to type them into")
    commands = next(line.split(": ", 1)[1] for line in observed.seen.splitlines() if line.startswith(f"to {way}: "))
    environment = {"DOCKER_HOST": engine_url(), "PATH": os.environ["PATH"]}
    shell = await asyncio.create_subprocess_exec("sh", "-ec", commands, stdout=DEVNULL, env=environment)
    assert await shell.wait() == 0
    told = bench.containers.told(name)
    assert (told["Id"], told["State"]["Running"]) == (new if way == "finish" else old, True)
    assert bench.containers.all_names() == {name}


async def test_the_command_line_of_a_rollback_names_variables_and_not_their_values(bench: Bench) -> None:
    bench.containers.run(
        "web",
        "v2",
        Env=["PASSWORD=secret"],
        Labels=ALLOW_ALL,
        host={"Binds": ["/tmp:/mnt:ro"], "RestartPolicy": {"Name": "always"}},
    )
    typed = bench.platform.describe(Rollback("sha256:abc"), await bench.one(name=bench.containers.name("web")))
    assert "-e PASSWORD" in typed
    assert "secret" not in typed
    assert "VERSION" not in typed, "which is the image's own"
    for part in ("docker stop", "--restart always", "-v /tmp:/mnt:ro", "sha256:abc"):
        assert part in typed


# --- An engine between whose answers and us something goes wrong -----------------------------------------------------------


@pytest.fixture
async def between(containers: Containers) -> AsyncIterator[Between]:
    async with standing_between() as one:
        yield one


def stopped(workload: Workload) -> Workload:
    return replace(workload, instances=tuple(replace(one, health=Health.STOPPED) for one in workload.instances))


@pytest.fixture
def unclosed() -> Iterator[None]:
    """docker-py leaves the socket of a failed connect to the garbage collector: let that be in the test that caused it."""
    yield
    gc.collect()


def no_engine(test: Any) -> Any:
    return pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(
        pytest.mark.usefixtures("unclosed")(test)
    )


async def test_the_reading_side_sends_nothing_but_get(between: Between, containers: Containers) -> None:
    containers.run("web", Labels=ALLOW_ALL)
    async with bench_on(between.url, containers, threads=2, seconds=20) as bench:
        workload = await bench.one(name=containers.name("web"))
        for look in (Logs(), Stats(), Inspect(), Events(), Disk(), RolloutAge(), Exec(("true",))):
            await bench.platform.diagnose(look, workload)
        await bench.platform.check(Healthy(), workload)
        for step in (Restart(), Start(), Stop(), Rollback("sha256:abc"), Prune(), Exec(("true",))):
            await bench.platform.observe(step, workload, await bench.platform.mark(step, workload))
            bench.platform.describe(step, workload)
        await bench.platform.inventory()
    assert {line.split()[0] for line in between.requests} == {"GET"}


@pytest.mark.parametrize("how", ["keep", "hang up"])
async def test_a_write_without_an_answer_is_in_doubt_and_a_read_is_not(
    between: Between, containers: Containers, how: str
) -> None:
    containers.run("web")
    async with bench_on(between.url, containers) as bench:
        workload = await bench.one(name=containers.name("web"))
        between.how = how
        with pytest.raises(OutcomeUnknown):
            await bench.actuator.perform(Restart(timedelta()), workload, {})
        with pytest.raises(TransientError):
            await bench.platform.find(Selection({"name": containers.name("web")}))
        assert (await bench.platform.check(Healthy(), workload)).probe is Probe.UNKNOWN


@no_engine
async def test_an_engine_that_is_not_there_was_sent_nothing(containers: Containers, tmp_path: Path) -> None:
    workload = Workload("docker", "container", "web", instances=())
    async with bench_on(f"unix://{tmp_path}/docker.sock", containers) as bench:
        with pytest.raises(TransientError, match="cannot be reached"):
            await bench.platform.find(Selection({"name": "web"}))
        assert (await bench.platform.check(Healthy(), workload)).probe is Probe.UNKNOWN


@no_engine
async def test_an_engine_that_went_away_was_sent_nothing_and_is_used_again_when_it_is_back(
    between: Between, containers: Containers, tmp_path: Path
) -> None:
    containers.run("web")
    socket = tmp_path / "docker.sock"
    async with bench_on(f"unix://{socket}", containers) as bench:
        server = await asyncio.start_unix_server(between.serve, socket)
        workload = await bench.one(name=containers.name("web"))
        server.close()
        between.drop()
        socket.unlink(missing_ok=True)
        with pytest.raises(TransientError, match="cannot be reached"):
            await bench.actuator.perform(Restart(SOON), workload, {})
        server = await asyncio.start_unix_server(between.serve, socket)
        assert await bench.actuator.perform(Restart(SOON), workload, {}) == f"restarted {containers.name('web')}"
        server.close()


async def test_a_call_that_waited_too_long_for_a_thread_is_never_sent(between: Between, containers: Containers) -> None:
    containers.run("web")
    async with bench_on(between.url, containers, threads=1, seconds=1) as bench:
        workload = await bench.one(name=containers.name("web"))
        between.how = "keep"
        between.heard.clear()
        stuck = asyncio.create_task(bench.actuator.perform(Stop(SOON), workload, {}))
        await between.heard.wait()
        with pytest.raises(TransientError, match="not sent"):
            await bench.actuator.perform(Restart(timedelta()), workload, {})
        with pytest.raises(OutcomeUnknown):
            await stuck
        between.how = "pass"
        assert await bench.actuator.perform(Start(), stopped(workload), {}) == f"started {containers.name('web')}"
        assert not [line for line in between.requests if "/restart" in line]


@pytest.mark.parametrize("by", ["unix", "tcp"])
async def test_a_request_that_is_ready_is_not_sent_once_it_may_not_be(
    by: str, between: Between, containers: Containers
) -> None:
    started = containers.told(containers.run("web"))["State"]["StartedAt"]
    path = f"/containers/{containers.name('web')}/restart"
    leases: list[str] = []

    def stopped_meanwhile(client: Client) -> None:
        leases.clear()  # as if the process were stopped for long while the request is made
        request(client, "POST", path).close()

    engine = DockerEngine(between.url if by == "tcp" else engine_url(), 1, timedelta(seconds=20), lambda: bool(leases))
    with closing(engine):
        leases.append("mine")
        with pytest.raises(TransientError, match="not sent"):
            await engine.write(stopped_meanwhile)
        assert (await engine.read(lambda client: client.inspect_container(containers.name("web"))))["State"][
            "StartedAt"
        ] == started
        leases.append("mine again")
        await engine.write(lambda client: request(client, "POST", path).close())
    assert len([line for line in between.requests if path in line]) == (by == "tcp")


async def test_a_slow_engine_does_not_hold_up_the_event_loop(between: Between, containers: Containers) -> None:
    async with bench_on(between.url, containers, seconds=1) as bench:
        await bench.platform.find(Selection({"name": "nobody"}))
        between.how = "keep"
        asked = asyncio.create_task(bench.platform.find(Selection({"name": "nobody"})))
        longest, last = 0.0, monotonic()
        while not asked.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, monotonic() - last), monotonic()
        assert isinstance(asked.exception(), TransientError)
        assert longest < 0.5


async def test_cancelling_the_caller_does_not_stop_a_swap_half_way(between: Between, containers: Containers) -> None:
    containers.run("web", "v2", Cmd=["sleep", "600"], StopTimeout=1)
    name, step = containers.name("web"), Rollback(image_id(containers.client, "v1"))
    async with bench_on(between.url, containers, seconds=20) as bench:
        performing = asyncio.create_task(bench.actuator.perform(step, await bench.one(name=name), {}))
        await asyncio.to_thread(eventually, lambda: any("/stop" in line for line in between.requests), "sent the stop")
        performing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await performing
        await asyncio.to_thread(eventually, lambda: containers.all_names() == {name}, "swapped")
        told = containers.told(name)
        assert (told["Image"], told["State"]["Running"]) == (step.to, True)
