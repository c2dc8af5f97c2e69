"""The protocol claim → go, and the questions that guards ask of the ledger.

Claim is one transaction: it reads the facts again, lets the guards decide again, takes the target and writes the intent.
Go is a conditional update immediately before the call: the fence is mine and the lease valid, the episode still fires and
nobody has silenced it, nothing is paused, the approval lives. Between the two nothing has left the process. Unique keys
stand behind both (`ledger_go_once`, `locks`), so that even a wrong guard cannot send one rung twice or put two runs on
one target.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from remediator.core.alert import WATCHDOG, Episode, EpisodeState
from remediator.core.guards.rate import left
from remediator.core.playbook import Playbook, RateLimit
from remediator.core.run import Run, RunEvent
from remediator.core.snapshot import Candidate, LedgerFacts, Paused, Policy
from remediator.core.target import Workload
from remediator.core.verdict import Reason
from remediator.ports import Facts, Fenced, LedgerKind, LedgerRow, Standing
from remediator.storage.approvals import SqlApprovals
from remediator.storage.breakers import SqlBreakers
from remediator.storage.codec import load, micros, moment
from remediator.storage.database import Database
from remediator.storage.dependencies import SqlDependencies
from remediator.storage.episodes import SqlEpisodes
from remediator.storage.heartbeats import SqlHeartbeats
from remediator.storage.releases import SqlReleases
from remediator.storage.runs import SqlRuns
from remediator.storage.storms import SqlStorms

LAST_SWITCH = "SELECT who, data FROM ledger WHERE kind = 'switch' ORDER BY id DESC LIMIT 1"
HOLDER = "SELECT run_id FROM locks WHERE target = :target AND run_id <> :run"
LAST_FINISHED = """
    SELECT at FROM ledger
     WHERE kind = 'result' AND target = :target AND run_id <> :run AND score IN ('success', 'failure')
     ORDER BY id DESC LIMIT 1
"""
INTENTS_ON_TARGET = "SELECT at FROM ledger WHERE kind = 'intent' AND target = :scope ORDER BY at DESC LIMIT :limit"
INTENTS_OF_PLAYBOOK = "SELECT at FROM ledger WHERE kind = 'intent' AND playbook = :scope ORDER BY at DESC LIMIT :limit"
INTENTS_OF_ALL = "SELECT at FROM ledger WHERE kind = 'intent' ORDER BY at DESC LIMIT :limit"
OTHERS_IN_FLIGHT = """
    SELECT count(*) AS others FROM runs
     WHERE id IN (SELECT run_id FROM locks WHERE run_id <> :run) AND playbook = :playbook
"""
LEASE = "SELECT lease_until FROM runs WHERE id = :id AND fence = :fence AND lease_owner <> '' AND lease_until > :at"
LOCK = "INSERT INTO locks (target, run_id, since) VALUES (:target, :run, :at) ON CONFLICT (target) DO NOTHING"


class Parts(Protocol):
    """The other parts of the ledger that guards ask questions of."""

    runs: SqlRuns
    episodes: SqlEpisodes
    releases: SqlReleases
    approvals: SqlApprovals
    breakers: SqlBreakers
    storms: SqlStorms
    heartbeats: SqlHeartbeats
    dependencies: SqlDependencies


class SqlClaims:
    def __init__(self, db: Database, parts: Parts, policy: Callable[[], Policy]) -> None:
        self._db = db
        self._parts = parts
        self._policy = policy

    def decide_alone(self, candidate: Candidate) -> None:
        locks = candidate.workload.locks if candidate.workload else ()
        self._db.lock(["all", f"playbook:{candidate.playbook.name}", *locks])

    def facts(self, candidate: Candidate, episode: Episode | None = None) -> LedgerFacts:
        parts, target, playbook, limits = self._parts, candidate.target, candidate.playbook.name, candidate.limits
        needed = parts.dependencies.causes(candidate)
        return LedgerFacts(
            paused=self.paused(),
            episode=episode or self._episode(candidate.episode.id),
            locked_by=self._other_holder(candidate.workload.locks, candidate.run) if candidate.workload else "",
            last_finished_at=self._last_finished_at(target, candidate.run),
            intents_on_target=self._intents(INTENTS_ON_TARGET, target, limits.max),
            intents_of_playbook=self._intents(INTENTS_OF_PLAYBOOK, playbook, limits.max_all_targets),
            intents_of_all=self._intents(INTENTS_OF_ALL, "all", self._policy().max_all),
            results_on_target=parts.breakers.results_on(target),
            results_of_playbook=parts.breakers.results_of(playbook),
            # The candidate's own run may not be on record with its target yet: it is a re-fire like any other.
            openings_on_target=(*parts.breakers.openings_on(target), candidate.episode.opened_at),
            openings_of_playbook=(*parts.breakers.openings_of(playbook), (target, candidate.episode.opened_at)),
            others_in_flight=self._db.one(OTHERS_IN_FLIGHT, run=candidate.run, playbook=playbook)["others"],
            open_causes=self._open_causes(candidate),
            needed=needed,
            ahead=parts.dependencies.ahead_of(candidate, needed),
            previous_release=parts.releases.previous(candidate.workload) if candidate.workload else "",
            in_flight=self._in_flight(candidate.workload, candidate.run) if candidate.workload else frozenset(),
            storm=parts.storms.current(),
            approval=parts.approvals.given(candidate.run, candidate.rung),
            watchdog_heard_at=parts.heartbeats.heard_at(WATCHDOG),
        )

    def claim(self, run: Run, locks: Sequence[str], at: datetime, *rows: LedgerRow) -> Run:
        for lock in locks:
            self._db.run(LOCK, target=lock, run=run.id, at=micros(at))
        if other := self._other_holder(locks, run.id):
            raise Fenced(f"{run.target} was taken by run {other}")  # the lock guard has just seen it free
        return self._parts.runs.move(run, RunEvent.CLAIM, at, *rows)

    def go(self, run: Run, sent: Facts, at: datetime, approved_plan: str = "") -> tuple[Run, Reason]:
        lease = self._db.one(LEASE, id=run.id, fence=run.fence, at=micros(at))
        if lease is None:
            raise Fenced(f"the lease of run {run.id} has ended")
        if reason := self._against(run, at, approved_plan):
            return run, reason
        gone = self._parts.runs.move(run, RunEvent.GO, at, LedgerRow(at, LedgerKind.GO, data=sent))
        return replace(gone, lease_until=moment(lease["lease_until"])), Reason.CLEAR

    def _against(self, run: Run, at: datetime, approved_plan: str) -> Reason | None:
        """What has come up since the claim and forbids the call, or None."""
        episode = self._parts.episodes.get(run.episode.id)
        match episode.state:
            case EpisodeState.RESOLVED:
                return Reason.RESOLVED
            case EpisodeState.EXPIRED:
                return Reason.STALE
        if episode.muted:
            return Reason.SILENCED
        if self.paused() is not None:
            return Reason.PAUSED
        return None if not approved_plan or self._lives(run, at, approved_plan) else Reason.NOT_APPROVED

    def _lives(self, run: Run, at: datetime, plan: str) -> bool:
        """Whether the approval of this plan was given, was not used, and has not run out (promise S6)."""
        given = self._parts.approvals.given(run.id, run.rung)
        return given is not None and given.granted and not given.used and given.plan == plan and at < given.expires_at

    def standing(self, playbook: Playbook, at: datetime) -> Standing:
        intents = self._intents(INTENTS_OF_PLAYBOOK, playbook.name, playbook.limits.max_all_targets)
        return Standing(
            breakers_open=sum(at < breaker.open_until for breaker in self._parts.breakers.of(playbook)),
            rate_remaining=left(intents, playbook.limits.max_all_targets, at),
        )

    def paused(self) -> Paused | None:
        row = self._db.one(LAST_SWITCH)
        if row is None:
            return None
        said = load(row["data"])
        return Paused(row["who"], said["why"]) if said["paused"] else None

    def _episode(self, episode: int) -> Episode:
        found = self._parts.episodes.get(episode)
        return replace(found, opened_at=moment(self._db.steady(micros(found.opened_at))))

    def _other_holder(self, locks: Sequence[str], run: str) -> str:
        """Another run that holds any of the locks, or empty."""
        rows = [self._db.one(HOLDER, target=lock, run=run) for lock in locks]
        return next((row["run_id"] for row in rows if row is not None), "")

    def _in_flight(self, workload: Workload, run: str) -> frozenset[str]:
        """The instances of the workload's service, by name, that another run is at work on."""
        everyone = (*workload.instances, *workload.peers)
        return frozenset(each.name for each in everyone if self._other_holder([workload.lock_of(each)], run))

    def _last_finished_at(self, target: str, run: str) -> datetime | None:
        row = self._db.one(LAST_FINISHED, target=target, run=run) if target else None
        return moment(self._db.steady(row["at"])) if row else None

    def _intents(self, sql: str, scope: str, limits: tuple[RateLimit, ...]) -> tuple[datetime, ...]:
        if not scope or not limits:
            return ()
        parameters = {} if sql is INTENTS_OF_ALL else {"scope": scope}
        rows = self._db.all(sql, limit=max(limit.count for limit in limits), **parameters)
        return tuple(moment(self._db.steady(row["at"])) for row in rows)

    def _open_causes(self, candidate: Candidate) -> tuple[str, ...]:
        causes = self._parts.episodes.open_that_meet(candidate.limits.hold_if, but=candidate.episode.id)
        return tuple(sorted({cause.labels.get("alertname", cause.key) for cause in causes}))
