"""`explain`: what would be decided about an alert now, and why, guard by guard. Reads everything, writes nothing."""

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from remediator.app import effective_policy, store_address, surroundings, usable
from remediator.cli.service import CANNOT_START, complain
from remediator.clock import SystemClock, elapsed
from remediator.core.alert import Alert, AlertStatus, Episode, EpisodeState, episode_key
from remediator.core.decide import decide
from remediator.core.playbook import Playbook, PlaybookIndex
from remediator.core.snapshot import Policy, Snapshot
from remediator.core.target import Workload
from remediator.core.verdict import Decision
from remediator.ingress.payload import NotAMessage, parse
from remediator.ports import Evidence, StoreUnavailable
from remediator.prospect import Choice, Prospect, choose, gather, look_up
from remediator.settings import Settings, load_settings
from remediator.shelf import read_files
from remediator.storage.address import Address, PostgresAddress
from remediator.storage.database import Database, SqliteDatabase
from remediator.storage.ledger import SqlLedger
from remediator.storage.migrate import revision_of, upgrade
from remediator.world import World


def explain(arguments: argparse.Namespace) -> int:
    """0 if every alert was explained, 1 if one matches no playbook, 2 if the input cannot be read."""
    try:
        text = sys.stdin.read() if arguments.file == "-" else Path(arguments.file).read_text()
        alerts = _alerts_of(text)
        settings = load_settings(os.environ)
        files = read_files(settings)
    except (*CANNOT_START, OSError, UnicodeDecodeError, NotAMessage) as error:
        return complain(error)
    try:
        policy = files.applied_to(effective_policy(settings))
        return asyncio.run(_explain_all(alerts, settings, PlaybookIndex(files.playbooks), policy))
    except (*CANNOT_START, StoreUnavailable) as error:
        return complain(error)


async def _explain_all(alerts: list[Alert], settings: Settings, index: PlaybookIndex, policy: Policy) -> int:
    explained = True
    async with surroundings(settings, may_act=False) as around:
        with _ledger(settings, policy) as ledger:
            for alert in alerts:
                explained &= await _explain(alert, index, around.world, ledger, policy)
    return 0 if explained else 1


async def _explain(alert: Alert, index: PlaybookIndex, world: World, ledger: SqlLedger, policy: Policy) -> bool:
    now = ledger.now
    print(f"alert     {_labels(alert)}")
    playbook = index.find(alert.labels)
    if playbook is None:
        print("playbook  none matches these labels: nothing would be done\n")
        return False
    print(f"playbook  {playbook.name}: {playbook.summary}")
    episode = ledger.episodes.open_for(alert.labels) or _as_if_heard_now(alert, now)
    live = ledger.runs.last_of(episode.id) if episode.id else None
    run = live.id if live else "explain"

    history = _History(ledger)
    neighbours = await world.neighbours(episode)

    async def look(number: int) -> Prospect:
        return await look_up(world, history, run, episode, playbook, number)

    async def judge(prospect: Prospect) -> Decision:
        facts = ledger.claims.facts(prospect.candidate, episode)
        return decide(prospect.candidate, Snapshot(facts, policy, neighbours), now)

    async def diagnose(prospect: Prospect, _decision: Decision) -> Sequence[Evidence]:
        return await gather(prospect, history, now, acting=False)

    first = live.rung if live and not live.has_ended else 0
    choice = await choose(look, range(first, len(playbook.ladder)), judge, diagnose)
    if choice is None:
        print("decision  escalate: no step of the ladder applies to what was seen\n")
        return True
    _print_decision(choice)
    _print_ladder(playbook, [await look(number) for number in range(len(playbook.ladder))])
    return True


class _History:
    """Implements `prospect.History` over a ledger that is only read."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._releases = ledger.releases

    async def previous(self, workload: Workload) -> str:
        return self._releases.previous(workload)

    async def releases(self) -> Sequence[str]:
        return self._releases.all()

    async def rolled_out_at(self, workload: Workload) -> datetime | None:
        return self._releases.rolled_out_at(workload)


def _print_decision(choice: Choice) -> None:
    candidate, decision = choice.prospect.candidate, choice.decision
    print(f"target    {candidate.target or 'not one workload'}")
    print(f"next step {candidate.rung + 1}. {candidate.step.name}")
    print(f"decision  {decision.kind} ({decision.reason}): {decision.seen}")
    if decision.retry_at:
        print(f"          decided again at {decision.retry_at:%H:%M:%S} UTC or when what it waits for changes")
    print()
    for given in decision.verdicts:
        print(f"  {given.guard:10}{type(given.verdict).__name__.lower():9}{given.verdict.seen}")


def _print_ladder(playbook: Playbook, prospects: list[Prospect]) -> None:
    print("\nthe ladder, each step only after the one before it did not help:")
    for number, (rung, prospect) in enumerate(zip(playbook.ladder, prospects, strict=True), start=1):
        notes = [f"when {rung.when}"] if rung.when else []
        notes += ["with approval"] if rung.approval_required else []
        command = prospect.command_or_why_not or f"{rung.step.name}: not possible now (no consent, or nothing to go back to)"
        print(f"  {number}. {command}{' (' + ', '.join(notes) + ')' if notes else ''}")
    print()


def _labels(alert: Alert) -> str:
    others = ", ".join(f'{name}="{value}"' for name, value in sorted(alert.labels.items()) if name != "alertname")
    return f"{alert.labels.get('alertname', '')}{{{others}}} {alert.status}"


def _as_if_heard_now(alert: Alert, now: datetime) -> Episode:
    """The episode that this alert would open, as if it had been heard since it began."""
    return Episode(
        id=0,
        key=episode_key(alert.labels),
        labels=alert.labels,
        annotations=alert.annotations,
        state=EpisodeState.OPEN if alert.status is AlertStatus.FIRING else EpisodeState.RESOLVED,
        confirmed=True,
        starts_at=alert.starts_at,
        opened_at=min(alert.starts_at, now),
        heard_at=now,
    )


def _alerts_of(text: str) -> list[Alert]:
    """The alerts of a webhook message, of a list of alerts (`amtool alert -o json`), or one alert. Raises NotAMessage."""
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotAMessage(f"the file is not JSON: {error}") from error
    if isinstance(given, dict) and "alerts" not in given:
        given = [given]
    if isinstance(given, list):
        given = {"version": "4", "alerts": [_completed(each) for each in given]}
    parsed = parse(json.dumps(given).encode())
    if parsed.rejected:
        first = parsed.rejected[0]
        raise NotAMessage(f"alert {first.position + 1} cannot be used ({first.reason}): {first.why}")
    return list(parsed.alerts)


def _completed(alert: Any) -> Any:
    """Only labels are needed to ask what would be done; the API's `status` is a mapping, the webhook's is a word."""
    if not isinstance(alert, dict):
        return alert
    status = alert.get("status")
    defaults = {"startsAt": SystemClock().now().isoformat()}
    return {**defaults, **alert, "status": status if status in ("firing", "resolved") else "firing"}


@contextmanager
def _ledger(settings: Settings, policy: Policy) -> Iterator[SqlLedger]:
    """The ledger to read: the real one if there is one (while remediator runs, too), else an empty one."""
    address = store_address(settings)
    with usable(address):
        revision = revision_of(address)
    with tempfile.TemporaryDirectory() as scratch:
        if not revision:
            address = Path(scratch) / "empty.db"
            upgrade(address)
        with _reading(address) as database:
            yield SqlLedger(database, lambda: policy, settings.confirm_after)


@contextmanager
def _reading(address: Address) -> Iterator[Database]:
    """A connection that cannot write."""
    if isinstance(address, PostgresAddress):
        from remediator.storage.postgres_session import reading

        with reading(address, elapsed) as database:
            yield database
        return
    with closing(sqlite3.connect(f"file:{address}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        yield SqliteDatabase(connection, SystemClock())
