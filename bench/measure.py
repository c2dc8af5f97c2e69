"""The measurements: each starts its own servers in empty directories and comes back with lines of the table."""

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import reaction
from bench.load import Connections, Measured
from bench.messages import requests, service
from bench.report import Figure
from bench.servers import Server, backlog_is_empty, remediator, running

RATIO_TARGETS = {1: 0.60, 10: 0.45, 64: 0.40}
"""Share of the floor's throughput with CONNECTIONS_MAX connections, by alerts a message."""
CONNECTIONS_MAX = 64
LATENCY_TARGET = (10, 16, 15.0)
"""Alerts a message, connections, and the p99 in milliseconds that is asked for them."""
REACTION_PER_SECOND = 100
REACTION_P50_MS, REACTION_P99_MS = 5.0, 15.0
START_MB_MAX, LOADED_MB_MAX = 80, 120
HELP_SECONDS_MAX, LISTENING_SECONDS_MAX = 0.35, 1.2
STARTS = 3
WARM_UP_ALERTS = 100
CALLS_SECONDS_MAX = 10.0
"""An alert that is not acted on by then was lost, or waits for a limit: either way the measurement is wrong."""
REPEATED = 16
"""Distinct messages of the load that repeats itself: as many groups that fire again and again."""
MATCHED_ALERTNAME = "APIDown"
"""The shipped playbook api-down matches it; its target is nowhere, so every run ends with a refusal."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    cells: Sequence[tuple[int, int]] = tuple((alerts, connections) for alerts in (1, 10, 64) for connections in (1, 16, 64))
    """Alerts a message, connections."""
    compared: Sequence[int] = (1, 10, 64)
    """Alerts a message for which other loads and another way of storing are measured, too."""
    rounds: int = 3
    slice_seconds: float = 0.6
    load_alerts: int = 100_000
    expand_seconds_max: float = 40.0
    reaction_seconds: int = 10
    ledger_rows: tuple[int, int] = (1_000, 1_000_000)
    """How many rows are on record where the claim is measured."""
    drained_alerts: int = 20_000


@dataclass(slots=True)
class Lane:
    """One server under one load, and what came of it."""

    server: Server
    connections: Connections
    messages: Iterator[bytes]
    measured: Measured = field(default_factory=Measured)


async def start_up(plan: Plan) -> list[Figure]:
    """The process alone: how fast it is there, and how much memory it takes."""
    helped = median([_seconds_of_help() for _ in range(STARTS)])
    starts: dict[str, list[tuple[float, float]]] = {"new store": [], "existing store": []}
    for _ in range(STARTS):
        with directory() as home:
            for measured in starts.values():
                with remediator(home) as server:
                    await asyncio.sleep(0.3)  # what is done once it listens counts as memory after the start, too
                    measured.append((server.started_in, server.resident_mb))
    figures = [_at_most("remediator --help", helped, HELP_SECONDS_MAX, "s")]
    for name, each in starts.items():
        figures.append(_at_most(f"serve until listening, {name}", median(s for s, _ in each), LISTENING_SECONDS_MAX, "s"))
        figures.append(_at_most(f"memory after start, {name}", median(mb for _, mb in each), START_MB_MAX, "MB"))
    return figures


async def throughput(plan: Plan) -> list[Figure]:
    """Distinct alerts that no playbook matches, message by message committed before it is answered, against the floor."""
    figures = []
    with directory() as home, running(["bench.floor", "parse", str(home)], home) as floor:
        for alerts, connections in plan.cells:
            with directory() as own, remediator(own) as server:
                ours, least = await interleaved(plan, alerts, connections, server, floor)
            figures.append(
                _against(f"{_count(alerts, 'alert')}, {_count(connections, 'connection')}", alerts, connections, ours, least)
            )
    return figures


async def compared(plan: Plan) -> list[Figure]:
    """With all connections: the same alerts again and again, alerts that a playbook matches, and a transaction a request."""
    figures = []
    with ExitStack() as stack:
        homes = [stack.enter_context(directory()) for _ in range(2)]
        floor = stack.enter_context(running(["bench.floor", "parse", str(homes[0])], homes[0]))
        each = stack.enter_context(running(["bench.floor", "transaction", str(homes[1])], homes[1]))
        for alerts in plan.compared:
            ours, least = await interleaved(plan, alerts, CONNECTIONS_MAX, each, floor)
            figures.append(_against(f"{_count(alerts, 'alert')}, a transaction a request", 0, 0, ours, least))
            for name, load in (("repeated", {"repeat": REPEATED}), ("matched", {"alertname": MATCHED_ALERTNAME})):
                with directory() as own, remediator(own) as server:
                    ours, least = await interleaved(plan, alerts, CONNECTIONS_MAX, server, floor, **load)
                figures.append(_against(f"{_count(alerts, 'alert')}, {name}", 0, 0, ours, least))
    return figures


async def react(plan: Plan) -> list[Figure]:
    """Single alerts at a steady rate, each of which a playbook matches: from the first byte sent to the platform's call."""
    count = plan.reaction_seconds * REACTION_PER_SECOND
    with directory() as home, running(["bench.reaction", str(home)], home) as server:
        async with connected(server, CONNECTIONS_MAX) as connections:
            answers, messages = Measured(), requests(1)
            await connections.paced(messages, REACTION_PER_SECOND, WARM_UP_ALERTS, Measured())
            sent_at = await connections.paced(messages, REACTION_PER_SECOND, count, answers)
        called_at = await _calls(home, WARM_UP_ALERTS + count)
    waited = Measured(1.0, [called_at[service(serial)] - sent for serial, sent in enumerate(sent_at, WARM_UP_ALERTS)])
    p50, p99 = waited.quantile(0.5) * 1000, waited.quantile(0.99) * 1000
    return [
        Figure(
            f"POST to the platform's call, {REACTION_PER_SECOND} alerts/s",
            p50=f"{p50:.1f}",
            p99=f"{p99:.1f}",
            target=f"≤ {REACTION_P50_MS:g} / {REACTION_P99_MS:g} ms",
            met=p50 <= REACTION_P50_MS and p99 <= REACTION_P99_MS,
        ),
        Figure("POST to the answer, the same load", p50=ms(answers, 0.5), p99=ms(answers, 0.99)),
    ]


async def big_load(plan: Plan) -> list[Figure]:
    """Many distinct alerts as fast as they are taken; then the memory, and how fast the backlog becomes episodes."""
    messages = plan.load_alerts // 64
    with directory() as home, remediator(home) as server:
        async with connected(server, CONNECTIONS_MAX) as connections:
            began = perf_counter()
            await connections.send(requests(64), messages)
            loaded = perf_counter()
        taken_mb = server.resident_mb
        emptied = await _emptied(home, loaded + plan.expand_seconds_max)
        most_mb = server.resident_mb_max
    alerts = messages * 64
    name = f"{alerts:,} alerts"
    expanded = f"{emptied - loaded:.1f} s" if emptied else f"> {plan.expand_seconds_max:g} s"
    return [
        Figure(f"{name}: taken in", f"{loaded - began:.1f} s"),
        _at_most(f"{name}: memory when taken", taken_mb, LOADED_MB_MAX, "MB"),
        _at_most(f"{name}: memory at most, to the end of expanding", most_mb, LOADED_MB_MAX, "MB"),
        Figure(f"{name}: until all is expanded", expanded),
    ]


async def interleaved(
    plan: Plan, alerts: int, connections: int, server: Server, floor: Server, **load: object
) -> tuple[Measured, Measured]:
    """Slices of the one and of the other in turn, so that a noisy machine is as unfair to both."""
    async with connected(server, connections) as to_server, connected(floor, connections) as to_floor:
        ours = Lane(server, to_server, requests(alerts, **load))  # type: ignore[arg-type]
        least = Lane(floor, to_floor, requests(alerts))
        for _ in range(plan.rounds):
            for lane, other in ((least, ours), (ours, least)):
                with other.server.held():
                    await lane.connections.slice(lane.messages, plan.slice_seconds, lane.measured)
    return ours.measured, least.measured


@asynccontextmanager
async def connected(server: Server, count: int) -> AsyncIterator[Connections]:
    connections = await Connections.open(server.port, count)
    try:
        yield connections
    finally:
        connections.close()


async def _calls(home: Path, count: int) -> Mapping[str, float]:
    async with asyncio.timeout(CALLS_SECONDS_MAX):
        while len(called_at := reaction.calls(home)) < count:
            await asyncio.sleep(0.1)
    return called_at


async def _emptied(home: Path, deadline: float) -> float | None:
    while perf_counter() < deadline:
        if backlog_is_empty(home):
            return perf_counter()
        await asyncio.sleep(0.05)
    return None


def _against(name: str, alerts: int, connections: int, ours: Measured, floor: Measured) -> Figure:
    ratio, p99_ms = ours.per_second / floor.per_second, ours.quantile(0.99) * 1000
    target, met = "", None
    if connections == CONNECTIONS_MAX:
        target, met = f"≥ {RATIO_TARGETS[alerts]:.2f}", ratio >= RATIO_TARGETS[alerts]
    elif (alerts, connections) == LATENCY_TARGET[:2]:
        target, met = f"p99 ≤ {LATENCY_TARGET[2]:g} ms", p99_ms <= LATENCY_TARGET[2]
    return Figure(
        name,
        f"{ours.per_second:,.0f}/s",
        f"{floor.per_second:,.0f}/s",
        f"{ratio:.2f}",
        ms(ours, 0.5),
        ms(ours, 0.99),
        target,
        met,
    )


def _at_most(name: str, value: float, limit: float, unit: str) -> Figure:
    shown = f"{value:.0f} {unit}" if unit == "MB" else f"{value:.2f} {unit}"
    return Figure(name, shown, target=f"≤ {limit:g} {unit}", met=value <= limit)


def ms(measured: Measured, share: float) -> str:
    return f"{measured.quantile(share) * 1000:.1f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _seconds_of_help() -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-m", "remediator", "--help"], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - began


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="remediator-bench-") as path:
        yield Path(path)
