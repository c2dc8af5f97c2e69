"""The promises of design section 6, checked after every commit, call and effect, against a record of its own.

The record is made of what the platform truly saw, what was answered 2xx, and the rows as they became durable: it asks
neither guards nor claims. Times are the database's, at the commit. `docs/simulation.md` says which promise is checked how.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from remediator.core.playbook import Mode, Playbook, RateLimit
from remediator.core.snapshot import Policy
from remediator.core.step_parts import Risk
from remediator.core.target import Health
from remediator.lab.simulation.platform import Call
from remediator.lab.simulation.records import Broken, Flow, Record, Trips, alerts_in, moment, timeout_of
from remediator.lab.simulation.replica import Replica
from remediator.lab.simulation.shelf import read

ROWS = "SELECT * FROM ledger WHERE id > ? ORDER BY id"
RUN = """
    SELECT runs.id, playbook, playbook_version, created_at, deadline, episode_id, key, labels, opened_at, source
      FROM runs JOIN episodes ON episodes.id = episode_id JOIN playbooks ON version = playbook_version
     WHERE runs.id = ?
"""
NEW_RUNS = "SELECT rowid, id FROM runs WHERE rowid > ? ORDER BY rowid"
EPISODE = "SELECT state, muted FROM episodes WHERE id = ?"
OPEN = "SELECT id, key FROM episodes WHERE state = 'open'"
INBOX = "SELECT id, received_at, body FROM inbox WHERE set_aside = 0"
CAUSES = "SELECT 1 FROM episodes WHERE alertname = 'HostDown' AND state = 'open' AND id <> ?"
HEARD = "SELECT heard_at FROM episodes WHERE key = ?"
MONITOR_UP = 0.5
LONG = timedelta(seconds=150)
"""Longer than any process stands still between what it is told and what it makes of it."""
LATE = timedelta(seconds=90)
"""How long after its deadline the end of a run may be put on record while processes die: a lease, a turn, a look."""


class Promises:
    def __init__(
        self,
        connection: sqlite3.Connection,
        now: Callable[[], datetime],
        policy: Policy,
        fires_for: Callable[[str], timedelta],
    ) -> None:
        self._db = connection
        self._now = now
        self._policy = policy
        self._fires_for = fires_for
        """How long an alert has truly been firing, by its key."""
        self._seen_row = 0
        self._seen_run = 0
        self._runs: dict[str, Record] = {}
        self._open_on: dict[str, str] = {}
        self._intents: list[tuple[datetime, str, str]] = []
        self._results: dict[str, list[tuple[datetime, str, str]]] = {}
        self._trips: dict[str, Trips] = {}
        self._flows: dict[tuple[int, int], Flow] = {}
        self._aims: list[tuple[datetime, str]] = []
        self._stormy = False
        self._paused = False
        self._inbox: dict[int, tuple[int, bytes]] = {}
        self._open: dict[int, str] = {}
        self._accepted: dict[bytes, None] = {}
        self.critical: Callable[[str, str], None] | None = None
        """Told of each intent and each go, with the key of its alert: the moments at which trouble is worth most."""
        self.broken: Broken | None = None
        self.hits: dict[str, int] = {}
        """How often something was met that a promise is about."""

    # --- what is reported ---------------------------------------------------------------------------------------------

    def committed(self, replica: Replica) -> None:
        """A transaction has just become durable."""
        now = self._now()
        expanded = self._look_at_inbox()
        self._look_at_episodes(expanded)
        for row in self._db.execute(NEW_RUNS, (self._seen_run,)).fetchall():
            self._seen_run = row["rowid"]
            run = self._run(row["id"])
            self._aims.append((run.created_at, run.labels.get("service", "")))
        self._look_for_storm(now)
        for row in self._db.execute(ROWS, (self._seen_row,)).fetchall():
            self._seen_row = row["id"]
            self._look_at(row, json.loads(row["data"]), replica, now)

    def called(self, call: Call) -> None:
        """A call has reached the platform."""
        run = self._runs.get(call.task.removeprefix("run "))
        if run is None:
            self._say("S9", f"call {call.number} ({call.step.name}) was made by {call.task!r}, which is no known run")
            return
        steps = [rung.step.name for rung in run.playbook.ladder]
        if call.step.name not in steps or timeout_of(call.step) not in [timeout_of(rung.step) for rung in run.playbook.ladder]:
            self._say("S13", f"{call.step} is not of playbook {run.playbook.version} of run {run.id}")
        if call.workload.service != run.labels.get("service") or call.workload.service == "twins":
            self._say("S10", f"{call.workload.id} is not what {dict(run.labels)} selects")
        if call.workload.protected:
            self._say("S11", f"{call.workload.id} is remediator's own")
        if run.playbook.mode.rank < Mode.APPROVE.rank:
            self._say("S7", f"playbook {run.playbook.name} may only suggest, and {call.step.name} was called")
        if call.step.risk is Risk.DESTRUCTIVE and run.plan not in run.used_plans:
            self._say("S6", f"{call.step.name} on {call.workload.id} without a go that used an approval")

    def happened(self, call: Call) -> None:
        """A call has taken effect."""
        run = self._runs.get(call.task.removeprefix("run "))
        if run is None:
            return
        rung = [each.step.name for each in run.playbook.ladder].index(call.step.name)
        flow = self._flows.setdefault((run.episode, rung), Flow())
        flow.effects += 1
        self._hit("effects")
        if flow.effects > 1:
            self._say("S2", f"{call.step.name} on {call.workload.id} happened {flow.effects} times for episode {run.episode}")

    def accepted(self, body: bytes) -> None:
        """A message was answered 200."""
        self._hit("accepted")
        self._accepted[body] = None
        on_record = self._db.execute("SELECT 1 FROM inbox WHERE body = ?", (body,)).fetchone()
        missing = [key for key in alerts_in(body) if self._db.execute(HEARD, (key,)).fetchone() is None]
        if on_record is None and missing:
            self._say("S1", f"a message was answered 200 and is neither in the inbox nor heard: {body!r}")

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _look_at(self, row: sqlite3.Row, data: dict[str, Any], replica: Replica, now: datetime) -> None:
        run = self._run(row["run_id"]) if row["run_id"] else None
        if run is not None:
            if run.plan and run.process not in ("", replica.process.name) and not run.ended:
                self._hit("taken over")
            run.process = replica.process.name
        match row["kind"], run:
            case "intent", Record():
                self._look_at_intent(run, row, data, replica, now)
            case "go", Record():
                self._look_at_go(run, row, now)
            case "outcome", Record():
                flow = self._flow(run, row)
                flow.open = data["outcome"] == "in_doubt"
                flow.proven_not_sent = data["outcome"] == "not_sent"
                self._hit(f"outcome {data['outcome']}")
            case "observation", Record():
                flow = self._flow(run, row)
                flow.open = False
                flow.proven_not_sent = data["happened"] == "no"
                run.told = run.told or data.get("told", False)
                run.in_doubt = run.in_doubt or data["happened"] == "unknown"
                self._hit(f"observed {data['happened']}")
            case "result", Record():
                self._look_at_result(row["target"], run.playbook, row["score"], run.id, now)
            case "approval", Record() if data["granted"]:
                run.approvals[data["plan"]] = now + self._policy.approval_lasts
            case "end", Record():
                self._look_at_end(run, data)
            case "switch", None:
                self._paused = data["paused"]
                self._hit("paused" if self._paused else "resumed")

    def _look_at_intent(self, run: Record, row: sqlite3.Row, data: dict[str, Any], replica: Replica, now: datetime) -> None:
        target, playbook, limits = row["target"], run.playbook, run.playbook.limits
        self._hit("intents")
        run.plan = data["plan"]
        self._critical("intent", run)
        holder = self._open_on.get(target)
        if holder not in (None, run.id):
            self._say("S4", f"run {run.id} takes {target}, which run {holder} holds")
        self._open_on[target] = run.id
        self._check_limits(target, playbook, now)
        self._intents.append((now, target, playbook.name))
        step = playbook.ladder[row["rung"]].step
        ended = [at for at, score, by in self._results.get(target, ()) if by != run.id and score in ("success", "failure")]
        if ended and now < ended[-1] + limits.cooldown:
            self._say("cooldown", f"{target} was left at {ended[-1]:%H:%M:%S}, and is taken at {now:%H:%M:%S}")
        for name in (target, playbook.name):
            trips = self._trips.get(name)
            if trips and trips.open_until and now < trips.open_until:
                self._say("S5", f"the breaker of {name} is open until {trips.open_until:%H:%M:%S}")
        repairs = sum(score == "success" and now < at + limits.masking.window for at, score, _ in self._results.get(target, ()))
        if repairs >= limits.masking.count:
            self._say("masking", f"{target} was repaired {repairs} times already")
        if now < run.opened_at + limits.settle:
            self._say("settle", f"run {run.id} acts {now - run.opened_at} after its episode opened")
        if limits.hold_if and self._db.execute(CAUSES, (run.episode,)).fetchone():
            self._say("hold", f"run {run.id} acts while its cause is open")
        if self._stormy:
            self._say("storm", f"run {run.id} acts in a storm")
        if playbook.mode.rank < Mode.APPROVE.rank:
            self._say("S7", f"playbook {playbook.name} may only suggest")
        self._check_neighbours(run, step.risk is not Risk.LOW, replica)
        self._check_radius(run, replica)

    def _check_limits(self, target: str, playbook: Playbook, now: datetime) -> None:
        """With this one. `_intents` does not have it yet."""
        scopes: Sequence[tuple[str, Sequence[RateLimit], Callable[[str, str], bool]]] = (
            ("target", playbook.limits.max, lambda on, _: on == target),
            ("playbook", playbook.limits.max_all_targets, lambda _, of: of == playbook.name),
            ("all", self._policy.max_all, lambda _, __: True),
        )
        for scope, limits, counts in scopes:
            for limit in limits:
                used = sum(counts(on, of) and at + limit.window > now for at, on, of in self._intents)
                if used >= limit.count:
                    self._say("S3", f"intent {used + 1} on {target} within {limit.window}; the limit per {scope} is {limit}")
                elif used == limit.count - 1:
                    self._hit(f"limit per {scope} reached")

    def _check_neighbours(self, run: Record, disturbs: bool, replica: Replica) -> None:
        """The last thing that the neighbours answered to the work that has just committed allows it."""
        listing, seen = replica.answers.told()
        if disturbs and (listing is None or listing.muted):
            self._say("silence", f"run {run.id} acts; Alertmanager's last answer about its alert was {listing}")
        if disturbs and (seen is None or not seen.firing or seen.up < MONITOR_UP * seen.targets):
            self._say("corroborate", f"run {run.id} acts; Prometheus's last answer about its alert was {seen}")

    def _check_radius(self, run: Record, replica: Replica) -> None:
        """Enough instances stay healthy, as the platform last told this process."""
        workload = replica.platform.found.get(run.labels.get("service", ""))
        if workload is None or len(workload.instances) == 1:
            return
        healthy = sum(each.health is Health.HEALTHY for each in workload.instances)
        needed = ceil(run.playbook.limits.min_healthy * len(workload.instances))
        if healthy and healthy - 1 < needed:
            self._say("blast radius", f"{workload.id} has {healthy} healthy instances, one is taken, {needed} must be left")

    def _look_at_go(self, run: Record, row: sqlite3.Row, now: datetime) -> None:
        flow = self._flow(run, row)
        self._hit("goes")
        self._critical("go", run)
        if flow.open or (flow.effects and not flow.proven_not_sent):
            self._say("S9", f"run {run.id} goes again, and nobody has found out whether the call before it happened")
        flow.open, flow.proven_not_sent = True, False
        step = run.playbook.ladder[row["rung"]].step
        state, muted = self._db.execute(EPISODE, (run.episode,)).fetchone()
        if state != "open" or muted:
            self._say("S8", f"run {run.id} goes for an episode that is {state} {muted}")
        if self._paused:
            self._say("S8", f"run {run.id} goes while paused")
        if self._open_on.get(row["target"]) != run.id:
            self._say("S4", f"run {run.id} goes for {row['target']}, which it does not hold")
        if step.risk is Risk.DESTRUCTIVE:
            until = run.approvals.get(run.plan)
            if until is None or now >= until or run.plan in run.used_plans:
                self._say("S6", f"run {run.id} goes on an approval that is {'used' if run.plan in run.used_plans else until}")
            run.used_plans[run.plan] = None
            self._hit("approvals used")

    def _look_at_result(self, target: str, playbook: Playbook, score: str, run: str, now: datetime) -> None:
        self._results.setdefault(target, []).append((now, score, run))
        self._hit(f"result {score}")
        limits = playbook.limits.breaker
        on_target, of_all = self._trips.setdefault(target, Trips()), self._trips.setdefault(playbook.name, Trips())
        if score == "success":
            self._trips[target] = Trips()
            of_all.failed.pop(target, None)
            if of_all.open_until is None or now >= of_all.open_until:
                of_all.open_until, of_all.opened = None, 0
        if score == "failure":
            on_target.failures += 1
            before = on_target.opened + of_all.opened
            on_target.trip(now, limits, may=on_target.failures >= limits.failures)
            of_all.failed[target] = now
            lately = [at for at in of_all.failed.values() if at + limits.window > now]
            of_all.trip(now, limits, may=len(lately) >= limits.targets)
            if on_target.opened + of_all.opened > before:
                self._hit("breaker opened")

    def _look_at_end(self, run: Record, data: dict[str, Any]) -> None:
        run.ended = True
        self._hit(f"ended {data['state']} {data['reason']}")
        for target in [target for target, holder in self._open_on.items() if holder == run.id]:
            del self._open_on[target]
        scores = [score for results in self._results.values() for _, score, by in results if by == run.id]
        if data["reason"] == "in_doubt" and "failure" not in scores:
            self._say("S5", f"run {run.id} ended in doubt, and no breaker counts it")

    # --- messages, storms ---------------------------------------------------------------------------------------------

    def _look_at_inbox(self) -> Sequence[bytes]:
        """What has left the inbox was heard in the same transaction. The bodies of these messages."""
        now = {row["id"]: (row["received_at"], row["body"]) for row in self._db.execute(INBOX)}
        gone = [message for number, message in self._inbox.items() if number not in now]
        self._inbox = now
        times = {at for at, _ in gone}
        for _, body in gone:
            for key in alerts_in(body):
                if not any(heard_at in times for (heard_at,) in self._db.execute(HEARD, (key,))):
                    self._say("S1", f"a message left the inbox, and its alert {key} was not heard: {body!r}")
        return [body for _, body in gone]

    def _look_at_episodes(self, expanded: Sequence[bytes]) -> None:
        """An episode is closed by a resolve, or because Alertmanager lists its alert no more: not while that still fires."""
        now = {row["id"]: row["key"] for row in self._db.execute(OPEN)}
        for number in self._open.keys() - now.keys():
            key = self._open[number]
            by_message = any(key in alerts_in(body, "resolved") for body in expanded)
            state, _ = self._db.execute(EPISODE, (number,)).fetchone()
            if state == "resolved" and not by_message and self._fires_for(key) > LONG:
                self._say("closed", f"alert {key} has been firing for {self._fires_for(key)}, and its episode was closed")
        self._open = now

    def _look_for_storm(self, now: datetime) -> None:
        limits = self._policy.storm
        self._aims = [(at, aim) for at, aim in self._aims if at + limits.window > now]
        aims = len({aim for _, aim in self._aims if aim})
        if self._stormy and aims <= limits.calm:
            self._stormy = False
        elif not self._stormy and aims > limits.targets:
            self._stormy = True
            self._hit("storms")

    # --- at the end ---------------------------------------------------------------------------------------------------

    def unfinished(self) -> Sequence[str]:
        """What still has to come to an end, in words."""
        left = [f"run {run.id} of {run.playbook.name}" for run in self._runs.values() if not run.ended]
        return [*left, *(f"message {number}" for number in self._inbox)]

    def finish(self) -> None:
        """Everything had its time: what has not come to an end never will."""
        now = self._now()
        for run in self._runs.values():
            if not run.ended and now > run.deadline + LATE and not run.told:
                self._say("L1", f"run {run.id} of {run.playbook.name} has not ended by {run.deadline:%H:%M:%S}")
            escalated = self._db.execute("SELECT 1 FROM outbox WHERE key LIKE ?", (f"escalation:{run.id}:%",)).fetchone()
            if (run.told or run.in_doubt) and not escalated:
                self._say("L2", f"run {run.id} is in doubt, and nobody was told")
        if self._inbox:
            self._say("L1", f"{len(self._inbox)} messages are still in the inbox")
        explained = "SELECT 1 FROM ledger WHERE episode_id = (SELECT max(id) FROM episodes WHERE key = ?)"
        for body in self._accepted:
            for key in alerts_in(body):
                if self._db.execute(explained, (key,)).fetchone() is None:
                    self._say("L1", f"nothing is on record of alert {key}, which was accepted")

    # --- what all share -----------------------------------------------------------------------------------------------

    def _run(self, number: str) -> Record:
        if number not in self._runs:
            row = self._db.execute(RUN, (number,)).fetchone()
            self._runs[number] = Record(
                number,
                read(row["source"], row["playbook"]),
                row["episode_id"],
                row["key"],
                json.loads(row["labels"]),
                moment(row["opened_at"]),
                moment(row["created_at"]),
                moment(row["deadline"]),
            )
        return self._runs[number]

    def _flow(self, run: Record, row: sqlite3.Row) -> Flow:
        return self._flows.setdefault((run.episode, row["rung"]), Flow())

    def _critical(self, kind: str, run: Record) -> None:
        if self.critical is not None:
            self.critical(kind, run.key)

    def _hit(self, what: str) -> None:
        self.hits[what] = self.hits.get(what, 0) + 1

    def _say(self, promise: str, how: str) -> None:
        self.broken = self.broken or Broken(promise, how)
