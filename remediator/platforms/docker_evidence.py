"""Looks at one container, and at what the engine reported: text for people, numbers for `when:`. Sends only GET requests."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from remediator.core.step import Disk, Events, Logs
from remediator.platforms import readable
from remediator.platforms.docker_container import Container, moment
from remediator.platforms.docker_engine import Client, request
from remediator.ports import Evidence

EVENTS = ("create", "start", "restart", "stop", "kill", "die", "oom", "destroy", "pause", "unpause", "rename", "health_status")
"""Without the exec_* events, which every health check makes three of."""

Look = tuple[str, Mapping[str, float]]
"""Text and numbers of one container."""


def logs(diagnosis: Logs, one: Container, client: Client) -> Look:
    raw = client.logs(one.id, tail=diagnosis.tail, timestamps=True)
    lines = raw.decode(errors="replace").splitlines()
    wanted = diagnosis.grep.casefold()
    return readable("\n".join(line for line in lines if wanted in line.casefold())), {"logs.lines": len(lines)}


def stats(one: Container, client: Client) -> Look:
    """Measured by the engine over its second of two samples; the formulas are those of `docker stats` (docker/cli)."""
    if not one.runs:
        return f"{one.name} is {one.status}", {}
    told = client.stats(one.id, stream=False)
    cpu, before = told["cpu_stats"], told["precpu_stats"]
    spent = cpu["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = cpu.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = cpu.get("online_cpus") or len(cpu["cpu_usage"].get("percpu_usage") or [0])
    memory = told["memory_stats"]
    cache = memory.get("stats", {}).get("total_inactive_file", memory.get("stats", {}).get("inactive_file", 0))
    used, limit = memory.get("usage", 0) - cache, memory.get("limit", 0)
    numbers = {
        "stats.cpu_percent": 100.0 * cpus * spent / passed if passed > 0 else 0.0,
        "stats.memory_bytes": float(used),
        "stats.memory_ratio": used / limit if limit else 0.0,
        "stats.pids": float(told.get("pids_stats", {}).get("current", 0)),
    }
    percent, size, ratio, pids = numbers.values()
    return f"cpu {percent:.1f}%, memory {size / 2**20:.1f} MiB ({ratio:.1%} of its limit), {pids:.0f} processes", numbers


def inspect(one: Container, _client: Client) -> Look:
    state, restarts = one.state, int(one.told.get("RestartCount", 0))
    checks = ((state.get("Health") or {}).get("Log") or [])[-3:]
    lines = [
        f"{one.name} is {one.status} ({one.health}), started {one.started_at}, finished {state['FinishedAt']}",
        f"exit code {state['ExitCode']}, out of memory: {state['OOMKilled']}, restarted {restarts} times by its policy",
        f"image {one.config['Image']} ({one.image})",
        *([f"error: {state['Error']}"] if state.get("Error") else []),
        *(f"health check exited {check['ExitCode']}: {readable(check['Output'], 500)}" for check in checks),
    ]
    numbers = {
        "inspect.exit_code": state["ExitCode"],
        "inspect.oom_killed": state["OOMKilled"],
        "inspect.restart_count": restarts,
    }
    return "\n".join(lines), {key: float(number) for key, number in numbers.items()}


def events(diagnosis: Events, names: Sequence[str], client: Client) -> Evidence:
    """Up to now by the engine's clock, so that the answer ends. An engine remembers the last 256 events of everything."""
    until = moment(client.info()["SystemTime"])
    filters = json.dumps({"type": ["container"], "container": list(names), "event": EVENTS})
    span = {"since": f"{(until - diagnosis.since).timestamp():.6f}", "until": f"{until.timestamp():.6f}", "filters": filters}
    reported = [json.loads(line) for line in request(client, "GET", "/events", params=span).text.splitlines()]
    lines = []
    for event in reported:
        about = event["Actor"]["Attributes"]
        code = f" (exit code {about['exitCode']})" if "exitCode" in about else ""
        lines.append(
            f"{datetime.fromtimestamp(event['time'], UTC):%Y-%m-%d %H:%M:%SZ} {about.get('name')} {event['Action']}{code}"
        )
    numbers = {f"events.{action}": float(sum(event["Action"] == action for event in reported)) for action in ("die", "oom")}
    return Evidence(Events.name, readable("\n".join(lines) or "no events"), numbers)


def disk(containers: Sequence[Container], client: Client) -> Evidence:
    """As `docker system df` counts it; of images that share layers, each layer once. Not what is free: no engine tells."""
    used = client.df()
    written = {one["Id"]: one.get("SizeRw", 0) for one in used["Containers"] or ()}
    images = used["Images"] or ()
    sizes = {
        "images": used["LayersSize"],
        "unused_images": sum(one["Size"] - max(0, one["SharedSize"]) for one in images if not one["Containers"]),
        "containers": sum(written.values()),
        "volumes": sum(max(0, one["UsageData"]["Size"]) for one in used["Volumes"] or ()),
    }
    own = {one.name: written.get(one.id, 0) for one in containers}
    lines = [f"{what.replace('_', ' ')}: {size / 2**20:.1f} MiB" for what, size in sizes.items()]
    lines += [f"{name} has written {size / 2**20:.1f} MiB outside of its volumes" for name, size in own.items()]
    numbers = {f"disk.{what}_bytes": float(size) for what, size in sizes.items()}
    return Evidence(Disk.name, "\n".join(lines), {**numbers, "disk.target_bytes": float(max(own.values()))})
