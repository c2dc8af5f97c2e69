"""Planted faults: guards that do not guard and steps of the claim protocol that are left out, one context manager each.

They stand here and not in the package: nothing that takes a guard away is shipped. Each names the promises that it may
break; which of them is met first depends on the seed.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from unittest.mock import patch

from remediator import announcements, doubt, remediate
from remediator.core.decide import decide
from remediator.core.guards import GUARDS
from remediator.core.run import RunState
from remediator.core.snapshot import Score
from remediator.core.verdict import Pass, Reason, Refuse
from remediator.doubt import Doubt
from remediator.leases import Leases
from remediator.ports import Happened, Observation
from remediator.reconcile import Reconciliation
from remediator.storage import claims, runs
from remediator.storage.approvals import SqlApprovals
from remediator.storage.claims import SqlClaims
from remediator.storage.runs import SqlRuns
from remediator.storage.storms import SqlStorms
from remediator.worker import Worker
from remediator.world import World

Planted = Callable[[], Iterator[None]]


@dataclass(frozen=True)
class Mutation:
    """What is left out, how it is planted, and which promises that may break."""

    name: str
    plant: Planted
    breaks: frozenset[str]
    shows_in: frozenset[str]
    """Troubles without which it cannot show: they are on in every seed, instead of in half of them."""


rate = import_module("remediator.core.guards.rate")
"""The module: in its package the guard of the same name stands before it."""

MUTATIONS: dict[str, Mutation] = {}


def breaks(*promises: str, shows_in: Collection[str] = ()) -> Callable[[Planted], Planted]:
    """Put a mutation on the list, under the words of its function's name."""

    def listed(plant: Planted) -> Planted:
        name = plant.__name__.replace("_", " ")
        MUTATIONS[name] = Mutation(name, contextmanager(plant), frozenset(promises), frozenset(shows_in))
        return plant

    return listed


def without_guards(*names: str) -> Callable[..., object]:
    """`decide`, with some of its guards asleep."""

    def asleep(guard):
        def says(candidate, snapshot, now):
            return Pass("asleep")

        says.__name__ = guard.__name__
        return says if guard.__name__ in names else guard

    return lambda candidate, snapshot, now, guards=GUARDS: decide(candidate, snapshot, now, [*map(asleep, guards)])


def guard_is_asleep(name: str, promise: str) -> None:
    def plant() -> Iterator[None]:
        with patch.object(remediate, "decide", without_guards(name)):
            yield

    plant.__name__ = f"{name}_guard_is_asleep"
    breaks(promise)(plant)


ASLEEP: Mapping[str, str] = {
    "silence": "silence",
    "hold": "hold",
    "settle": "settle",
    "corroborate": "corroborate",
    "cooldown": "cooldown",
    "rate": "S3",
    "breaker": "S5",
    "masking": "masking",
    "blast_radius": "blast radius",
    "mode": "S7",
}
for guard, promise in ASLEEP.items():
    guard_is_asleep(guard, promise)


# --- Counting ---------------------------------------------------------------------------------------------------------


RIGHT_NEXT_FREE_AT = rate.next_free_at


@breaks("S3")
def one_intent_too_many() -> Iterator[None]:
    def next_free_at(intents, limit, now):
        return RIGHT_NEXT_FREE_AT(intents, replace(limit, count=limit.count + 1), now)

    with patch.object(rate, "next_free_at", next_free_at):
        yield


@breaks("S3")
def window_tumbles() -> Iterator[None]:
    """Counted since the last full window of the calendar, as so many rate limiters do."""

    def next_free_at(intents, limit, now):
        seconds = limit.window.total_seconds()
        began_at = now - timedelta(seconds=now.timestamp() % seconds)
        used = sum(at >= began_at for at in intents[: limit.count])
        return now if used < limit.count else began_at + limit.window

    with patch.object(rate, "next_free_at", next_free_at):
        yield


@breaks("S3", "S4", "S5", "cooldown", "hold", "masking", "storm")
def counted_in_one_transaction_and_written_in_another() -> Iterator[None]:
    """Without the lock over what is decided about: the claim believes what was read before the evidence was gathered."""
    read: dict[str, object] = {}
    alone: dict[str, None] = {}
    right_facts = SqlClaims.facts

    def decide_alone(self, candidate):
        alone[candidate.run] = None

    def facts(self, candidate, episode=None):
        if candidate.run in alone:
            del alone[candidate.run]
            return read[candidate.run]
        read[candidate.run] = right_facts(self, candidate, episode)
        return read[candidate.run]

    with patch.object(SqlClaims, "decide_alone", decide_alone), patch.object(SqlClaims, "facts", facts):
        yield


# --- Locks, leases, fences --------------------------------------------------------------------------------------------


@breaks("S4")
def lock_is_forgotten() -> Iterator[None]:
    with patch.object(SqlClaims, "_other_holder", lambda *_: ""):
        yield


@breaks("S2", "S4", "S8", "S9", "L1", "no breakdown")
def lease_has_no_fence() -> Iterator[None]:
    unfenced = {name: getattr(runs, name).replace(" AND fence = :fence", "") for name in ("MOVE", "FENCE", "RENEW")}
    held = "SELECT lease_until FROM runs WHERE id = :id AND :fence = :fence AND :at = :at"
    with patch.multiple(runs, **unfenced), patch.object(claims, "LEASE", held):
        yield


@breaks("L1")
def heartbeat_prolongs_what_nobody_works_at() -> Iterator[None]:
    """By owner: what was leased by a transaction of which this process never heard stays leased for ever."""
    every = "UPDATE runs SET lease_until = ?, due_at = ? WHERE lease_owner <> '' AND finished_at IS NULL"

    def renew(self, held, until):
        micros = runs.micros(until)
        self._db._connection.execute(every, (micros, micros))
        return []

    with patch.object(SqlRuns, "renew", renew):
        yield


@breaks("S2", "S9", "S8", shows_in=("stopped", "stopped_at_commit", "call_waits"))
def sends_after_its_lease() -> Iterator[None]:
    right_go = SqlClaims.go

    def go(self, run, sent, at, approved_plan=""):
        gone, reason = right_go(self, run, sent, at, approved_plan)
        return replace(gone, lease_until=at + timedelta(days=1)), reason

    with patch.object(SqlClaims, "go", go), patch.object(Leases, "hold", lambda _: True):
        yield


# --- The last look ----------------------------------------------------------------------------------------------------


def go_overlooks(*overlooked: Reason) -> Iterator[None]:
    right_look = SqlClaims._against

    def against(self, run, at, approved_plan):
        reason = right_look(self, run, at, approved_plan)
        return None if reason in overlooked else reason

    with patch.object(SqlClaims, "_against", against):
        yield


@breaks("S8")
def go_does_not_see_that_the_alert_is_over() -> Iterator[None]:
    yield from go_overlooks(Reason.RESOLVED, Reason.STALE)


@breaks("S8")
def go_does_not_see_a_silence() -> Iterator[None]:
    yield from go_overlooks(Reason.SILENCED)


@breaks("S8")
def go_does_not_see_the_switch() -> Iterator[None]:
    yield from go_overlooks(Reason.PAUSED)


# --- Reconciliation ---------------------------------------------------------------------------------------------------


@breaks("closed", shows_in=("alertmanager_restarts", "message_lost"))
def an_alertmanager_that_has_just_started_is_believed() -> Iterator[None]:
    right_close = Reconciliation._close

    async def close(self, everything, now):
        return await right_close(self, replace(everything, up_for=timedelta(days=1)), now)

    with patch.object(Reconciliation, "_close", close):
        yield


# --- Doubt ------------------------------------------------------------------------------------------------------------


@breaks("S2")
def doubt_is_repeated_blindly() -> Iterator[None]:
    async def observe(self, step, workload, mark):
        return Observation(Happened.NO, "nobody looked")

    with patch.object(World, "observe", observe):
        yield


@breaks("S2")
def doubt_is_settled_before_the_call_is_over() -> Iterator[None]:
    with patch.object(Doubt, "_patience", lambda *_: timedelta()):
        yield


@breaks("S2", shows_in=("call_happens_late", "call_without_answer", "clock_set_during_a_call"))
def doubt_goes_by_a_clock_that_may_be_set() -> Iterator[None]:
    with patch.object(Doubt, "_patience", lambda _, run, by_the_record, in_all: by_the_record):
        yield


@breaks("S5")
def breaker_ignores_what_is_in_doubt() -> Iterator[None]:
    class Lenient:
        FAILURE = Score.NEUTRAL

    with patch.object(doubt, "Score", Lenient):
        yield


@breaks("L2")
def nobody_is_told_of_a_doubt() -> Iterator[None]:
    right_messages = announcements.messages

    def messages(run, playbook, timeline):
        return [] if run.state is RunState.IN_DOUBT else right_messages(run, playbook, timeline)

    with patch("remediator.record.messages", messages):
        yield


# --- Messages, targets, playbooks, storms, approvals ------------------------------------------------------------------


@breaks("S1")
def inbox_is_emptied_before_it_is_expanded() -> Iterator[None]:
    right_turn = Worker._turn

    async def turn(self):
        def take_away(ledger):
            taken = ledger.inbox.take(32)
            ledger.inbox.remove(taken)
            return [(message.body, message.received_at) for message in taken]

        def put_back(ledger):
            ledger.inbox.put(taken)

        if taken := await self._store.run(take_away):
            await self._store.run(put_back)
        return await right_turn(self)

    with patch.object(Worker, "_turn", turn):
        yield


@breaks("S10")
def first_of_several_targets_is_taken() -> Iterator[None]:
    right_find = World.find

    async def find(self, selection):
        found = await right_find(self, selection)
        several = getattr(found, "workloads", ())
        return replace(found, workloads=several[:1]) if several else found

    with patch.object(World, "find", find):
        yield


@breaks("S11")
def remediator_acts_on_its_own_store() -> Iterator[None]:
    right = {guard.__name__: guard for guard in GUARDS}["target"]

    def target(candidate, snapshot, now):
        verdict = right(candidate, snapshot, now)
        protected = isinstance(verdict, Refuse) and verdict.reason is Reason.TARGET_PROTECTED
        return Pass("it is only the store") if protected else verdict

    def deciding(candidate, snapshot, now, guards=GUARDS):
        return decide(candidate, snapshot, now, [target if guard is right else guard for guard in guards])

    with patch.object(remediate, "decide", deciding):
        yield


@breaks("S13", "no breakdown")
def newest_playbook_is_used() -> Iterator[None]:
    newest = """
        SELECT name, version, source FROM playbooks
         WHERE name = (SELECT name FROM playbooks WHERE version = :version) ORDER BY admitted_at DESC LIMIT 1
    """
    with patch.object(runs, "PLAYBOOK", newest):
        yield


@breaks("storm")
def storm_never_begins() -> Iterator[None]:
    with patch.object(SqlStorms, "look", lambda *_: None):
        yield


@breaks("S6")
def approval_is_used_twice() -> Iterator[None]:
    right_given = SqlApprovals.given

    def given(self, run, rung):
        approval = right_given(self, run, rung)
        return approval and replace(approval, used=False)

    with patch.object(SqlApprovals, "given", given):
        yield


@breaks("S6")
def approval_lasts_for_ever() -> Iterator[None]:
    right_given = SqlApprovals.given

    def given(self, run, rung):
        approval = right_given(self, run, rung)
        return approval and replace(approval, expires_at=approval.expires_at + timedelta(days=1))

    with patch.object(SqlApprovals, "given", given):
        yield
