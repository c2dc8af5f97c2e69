"""Hard times: a storm of alerts, intake while runs are in progress, a slow disk; and what the store does on its own."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from time import perf_counter

from bench import ledger
from bench.load import Measured
from bench.measure import CONNECTIONS_MAX, MATCHED_ALERTNAME, RATIO_TARGETS, Plan, connected, directory, interleaved, ms
from bench.messages import ALERTNAME, requests
from bench.report import Figure
from bench.servers import Server, count, remediator, running

STORM_ALERTS, STORM_ALERTS_A_MESSAGE = 10_000, 10
ACCEPTED_SECONDS_MAX, EXPLAINED_SECONDS_MAX = 3.0, 5.0
EXPLAINED_SECONDS_LIMIT = 60.0
RUNS_IN_PROGRESS = 50
OTHER_ALERTNAME = "SomethingElse"
"""No playbook of the server with runs in progress matches it."""
SLOW_RATIO_MIN = 20.0
DRAINS = 3
DRAINED_PER_SECOND_MIN = 10_000
DECIDE_MICROS_MAX = 50.0
CLAIM_RATIO_MAX = 1.2


async def storm(plan: Plan) -> list[Figure]:
    """10,000 alerts of as many targets: until all are answered, and until each has an episode, a run and a decision."""
    messages = requests(STORM_ALERTS_A_MESSAGE, alertname=MATCHED_ALERTNAME)
    with directory() as home, remediator(home) as server:
        before_mb = server.resident_mb
        answers = Measured()
        async with connected(server, CONNECTIONS_MAX) as connections:
            began = perf_counter()
            await connections.send(messages, STORM_ALERTS // STORM_ALERTS_A_MESSAGE, answers)
            accepted = perf_counter()
        held = "runs WHERE state = 'waiting' AND reason = 'storm'"
        async with asyncio.timeout(EXPLAINED_SECONDS_LIMIT):
            while count(home, held) < STORM_ALERTS:
                await asyncio.sleep(0.02)
        explained, grown_mb = perf_counter(), server.resident_mb_max - before_mb
        sent = count(home, "ledger WHERE kind = 'intent'"), count(home, "outbox")
    name = f"storm of {STORM_ALERTS:,} alerts"
    took, more = accepted - began, explained - accepted
    return [
        Figure(f"{name}: accepted", f"{took:.1f} s", "", "", ms(answers, 0.5), ms(answers, 0.99),
               f"≤ {ACCEPTED_SECONDS_MAX:g} s", took <= ACCEPTED_SECONDS_MAX),
        Figure(f"{name}: explained after that", f"{more:.1f} s", target=f"≤ {EXPLAINED_SECONDS_MAX:g} s",
               met=more <= EXPLAINED_SECONDS_MAX),
        Figure(f"{name}: actions, messages", f"{sent[0]}, {sent[1]}", target="0, 1", met=sent == (0, 1)),
        Figure(f"{name}: memory more than before", f"{grown_mb:.0f} MB"),
    ]  # fmt: skip


async def in_progress(plan: Plan) -> list[Figure]:
    """Intake while runs are in progress (called, and looking whether it helped) and what comes in is decided."""
    figures = []
    with ExitStack() as stack:
        home, other = (stack.enter_context(directory()) for _ in range(2))
        server = stack.enter_context(running(["bench.reaction", str(home), "10m"], home))
        floor = stack.enter_context(running(["bench.floor", "parse", str(other)], other))
        async with connected(server, 1) as connections:
            await connections.send(requests(1, alertname=ALERTNAME), RUNS_IN_PROGRESS)
        async with asyncio.timeout(EXPLAINED_SECONDS_LIMIT):
            while count(home, "runs WHERE state = 'verifying'") < RUNS_IN_PROGRESS:
                await asyncio.sleep(0.02)
        for alerts, ratio_min in RATIO_TARGETS.items():
            ours, least = await interleaved(plan, alerts, CONNECTIONS_MAX, server, floor, alertname=OTHER_ALERTNAME)
            name = f"{alerts} a message, {RUNS_IN_PROGRESS} runs in progress"
            figures.append(_faster(name, ours, least, ratio_min, "{:.2f}"))
    return figures


async def slow_disk(plan: Plan) -> list[Figure]:
    """Single alerts on a disk with an fsync of 6 ms, against a transaction for each of them on the same disk."""
    with ExitStack() as stack:
        home, other = (stack.enter_context(directory()) for _ in range(2))
        server: Server = stack.enter_context(remediator(home, "bench.slow_disk"))
        floor = stack.enter_context(running(["bench.floor", "slow", str(other)], other))
        ours, least = await interleaved(plan, 1, CONNECTIONS_MAX, server, floor)
    return [_faster("fsync of 6 ms, against a transaction a request", ours, least, SLOW_RATIO_MIN, "{:.0f}")]


async def alone(plan: Plan) -> Sequence[Figure]:
    """The store and the core by themselves, in this process."""
    figures = []
    for what, alertname in (("without a playbook", ledger.UNMATCHED), ("held by a storm", ledger.MATCHED)):
        per_second = median([await ledger.drained_per_second(alertname, plan.drained_alerts) for _ in range(DRAINS)])
        figures.append(
            Figure(f"alerts drained and explained, {what}", f"{per_second:,.0f}/s", target=f"≥ {DRAINED_PER_SECOND_MIN:,}/s",
                   met=per_second >= DRAINED_PER_SECOND_MIN)
        )  # fmt: skip
    for playbooks in (10, 1_000, 10_000):
        micros = ledger.decide_micros(playbooks)
        figures.append(
            Figure(f"find and decide, {playbooks:,} playbooks", f"{micros:.0f} µs", target=f"≤ {DECIDE_MICROS_MAX:g} µs",
                   met=micros <= DECIDE_MICROS_MAX)
        )  # fmt: skip
    few, many = await ledger.claim_seconds(plan.ledger_rows)
    name = f"claim with {plan.ledger_rows[1]:,} rows, against {plan.ledger_rows[0]:,}"
    ratio = many / few
    figures.append(
        Figure(name, f"{many * 1e3:.2f} ms", f"{few * 1e3:.2f} ms", f"{ratio:.2f}", target=f"≤ {CLAIM_RATIO_MAX:g}",
               met=ratio <= CLAIM_RATIO_MAX)
    )  # fmt: skip
    return figures


def _faster(name: str, ours: Measured, floor: Measured, ratio_min: float, shown: str) -> Figure:
    ratio = ours.per_second / floor.per_second
    return Figure(
        name, f"{ours.per_second:,.0f}/s", f"{floor.per_second:,.0f}/s", shown.format(ratio), ms(ours, 0.5), ms(ours, 0.99),
        f"≥ {shown.format(ratio_min)}", ratio >= ratio_min,
    )  # fmt: skip
