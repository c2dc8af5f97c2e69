"""The store and the core without a server around them: draining the inbox, deciding, claiming as the ledger grows."""

import gc
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from bench.messages import requests
from remediator.clock import SystemClock, new_id
from remediator.core.alert import Alert, AlertStatus, Episode, EpisodeState
from remediator.core.decide import decide
from remediator.core.matching import parse_matcher
from remediator.core.playbook import Mode, Playbook, PlaybookIndex, Rung, Verification
from remediator.core.snapshot import Candidate, Found, LedgerFacts, Policy, Result, Score, Snapshot
from remediator.core.step import Healthy, Restart
from remediator.core.target import Health, Instance, Selector, Workload
from remediator.ingress.expand import expand
from remediator.ports import Ledger, LedgerKind, LedgerRow, PlaybookText, Store
from remediator.storage.migrate import upgrade
from remediator.storage.sqlite import SqliteStore, connect

BODY = b"\r\n\r\n"
HISTORY = 20
"""Results, re-fires and intents of the target and of its playbook that are looked back on by a decision."""
ROWS_A_RUN = 8
CLAIMS = 300
MATCHED, UNMATCHED = "APIDown", "QueueBacklogGrowing"


@asynccontextmanager
async def a_store(directory: Path) -> AsyncIterator[SqliteStore]:
    path = directory / "store.db"
    upgrade(path)
    store = SqliteStore(path, lambda: Policy(mode=Mode.AUTO), timedelta(seconds=10), SystemClock())
    try:
        yield store
    finally:
        await store.close()


async def drained_per_second(alertname: str, alerts: int, alerts_a_message: int = 10) -> float:
    """What a fresh SQLite store drains."""
    with tempfile.TemporaryDirectory(prefix="remediator-bench-") as home:
        async with a_store(Path(home)) as store:
            return await drained_by(store, alertname, alerts, alerts_a_message)


async def drained_by(store: Store, alertname: str, alerts: int, alerts_a_message: int = 10) -> float:
    """Alerts a second parsed, put on record as episodes and explained: refused without a playbook, held by a storm with one."""
    index, clock = PlaybookIndex([a_playbook(0, MATCHED)]), SystemClock()
    gc.collect()
    gc.freeze()  # as `serve` does
    messages = requests(alerts_a_message, alertname=alertname)
    for _ in range(alerts // alerts_a_message):
        await store.put(next(messages).partition(BODY)[2], clock.now())
    began = perf_counter()
    while (await store.run(lambda ledger: expand(ledger, index, new_id, ledger.now))).messages:
        pass
    return alerts / (perf_counter() - began)


def decide_micros(playbooks: int, rounds: int = 2_000) -> float:
    """Finding the playbook of an alert among so many, and the verdicts of all guards; the median of five, in µs."""
    index = PlaybookIndex(a_playbook(number, f"Alert{number}") for number in range(playbooks))
    now = datetime.now(UTC)
    labels = {"alertname": f"Alert{playbooks // 2}", "service": "shop-api", "severity": "critical"}
    candidate, facts = a_candidate(index.find(labels) or a_playbook(0, ""), 1, "shop-api", labels, now), _history(now)
    snapshot = Snapshot(replace(facts, episode=candidate.episode), Policy(mode=Mode.AUTO))

    def once() -> None:
        index.find(labels)
        decide(candidate, snapshot, now)

    return median(_seconds(once, rounds) for _ in range(5)) / rounds * 1e6


async def claim_seconds(ledgers: Sequence[int]) -> Sequence[float]:
    """The transaction of a claim (facts, decision, lock, intent, commit) by how many rows are on record; medians, in turns."""
    took: list[list[float]] = [[] for _ in ledgers]
    with tempfile.TemporaryDirectory(prefix="remediator-bench-") as home:
        async with AsyncExitStack() as stack:
            stores = []
            for rows in ledgers:
                directory = Path(home) / str(rows)
                directory.mkdir()
                stores.append(await stack.enter_async_context(a_store(directory)))
                _fill(directory / "store.db", rows)
            for number in range(CLAIMS):
                for store, seconds in zip(stores, took, strict=True):
                    seconds.append(await _claim(store, number))
    return [median(each) for each in took]


async def _claim(store: SqliteStore, number: int) -> float:
    service, now = f"new-{number}", datetime.now(UTC)
    labels = {"alertname": MATCHED, "service": service}
    book = a_playbook(0, MATCHED)

    def admitted(ledger: Ledger):
        _, episode = ledger.episodes.hear(Alert(AlertStatus.FIRING, labels, {}, now, None), now)
        text = PlaybookText(book.name, "v1", "")
        ledger.runs.admit(f"run-{number}", episode, text, now, now + timedelta(minutes=30), service)
        return ledger.runs.lease("bench", now, now + timedelta(minutes=1), 1)[0]

    run = await store.run(admitted)
    candidate = a_candidate(book, run.episode.id, service, labels, now)

    def claim(ledger: Ledger) -> None:
        ledger.claims.decide_alone(candidate)
        decide(candidate, Snapshot(ledger.claims.facts(candidate), Policy(mode=Mode.AUTO)), now)
        intent = LedgerRow(now, LedgerKind.INTENT, target=candidate.target, data={"command": "restart"})
        ledger.claims.claim(replace(run, target=candidate.target), candidate.workload.locks, now, intent)

    began = perf_counter()
    await store.run(claim)
    return perf_counter() - began


def a_playbook(number: int, alertname: str) -> Playbook:
    matchers = tuple(map(parse_matcher, [f"alertname = {alertname}", 'severity =~ ".*"']))
    target = Selector({"service": "$labels.service"})
    return Playbook(
        f"playbook-{number}", "", matchers, target, (Rung(Restart()),), Verification((Healthy(),)), Mode.AUTO, version="v1"
    )


def a_candidate(book: Playbook, episode: int, service: str, labels: dict[str, str], now: datetime) -> Candidate:
    fires = Episode(episode, "key", labels, {}, EpisodeState.OPEN, True, now, now - timedelta(hours=1), now)
    instance = Instance("c0ffee", f"{service}-1", Health.STOPPED)
    found = Workload("docker", "container", f"{service}-1", service, frozenset({"restart"}), (instance,), "sha256:v1")
    return Candidate("asking", fires, book, 0, Restart(), Found((found,)))


def _history(now: datetime) -> LedgerFacts:
    times = tuple(now - timedelta(days=2 * number) for number in range(1, HISTORY + 1))
    results = tuple(Result(at, "docker:container/shop-api-1", Score.SUCCESS) for at in reversed(times))
    return LedgerFacts(
        paused=None, episode=None, last_finished_at=times[0],  # type: ignore[arg-type] # given by the caller
        intents_on_target=times[:10], intents_of_playbook=times[:10], intents_of_all=times,
        results_on_target=results, results_of_playbook=results, openings_on_target=times,
    )  # fmt: skip


def _fill(path: Path, rows: int) -> None:
    """A past of runs that repaired one of 1,000 targets, each with its episode and its rows of the ledger."""
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    past = int((datetime.now(UTC) - timedelta(days=60)).timestamp() * 1_000_000)
    kinds = ("decision", "evidence", "decision", "intent", "go", "outcome", "verification", "result")
    for number in range(rows // ROWS_A_RUN):
        at, run, target = past + number * 1_000_000, f"past-{number:09d}", f"docker:container/shop-{number % 1000}"
        connection.execute(
            "INSERT INTO episodes (id, key, alertname, fingerprint, labels, annotations, state, confirmed, starts_at,"
            " opened_at, heard_at, ends_at) VALUES (?, ?, 'APIDown', '', '{}', '{}', 'resolved', 1, ?, ?, ?, ?)",
            (number + 1, f"{number:032x}", at, at, at, at),
        )
        connection.execute(
            "INSERT INTO runs (id, episode_id, playbook, playbook_version, state, reason, rung, goes, target, fence,"
            " lease_owner, lease_until, due_at, created_at, deadline, finished_at, aim)"
            " VALUES (?, ?, 'playbook-0', 'v1', 'succeeded', 'verified', 0, 1, ?, 1, '', 0, NULL, ?, ?, ?, ?)",
            (run, number + 1, target, at, at, at, target),
        )
        connection.executemany(
            "INSERT INTO ledger (at, kind, run_id, episode_id, playbook, rung, target, score, who, data, attempt)"
            " VALUES (?, ?, ?, ?, 'playbook-0', 0, ?, ?, '', '{}', 0)",
            [(at, kind, run, number + 1, target, "success" if kind == "result" else "") for kind in kinds],
        )
    connection.execute("COMMIT")
    connection.close()


def _seconds(once: Callable[[], None], rounds: int) -> float:
    """Of the processor: what others do beside it does not count."""
    began = process_time()
    for _ in range(rounds):
        once()
    return process_time() - began
