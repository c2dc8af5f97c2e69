"""The names of all metrics and log events, and the verbs that tell them. No label holds what an alert can invent."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from remediator import __version__
from remediator.core.playbook import Mode
from remediator.core.run import Run
from remediator.core.snapshot import Approval
from remediator.core.verdict import Decision


class Log(Protocol):
    """The part of a structlog logger that is used: events are names, not sentences."""

    def debug(self, event: str, **facts: Any) -> Any: ...
    def info(self, event: str, **facts: Any) -> Any: ...
    def warning(self, event: str, **facts: Any) -> Any: ...
    def error(self, event: str, **facts: Any) -> Any: ...


ACTION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
TO_ACTION_BUCKETS = (0.005, 0.01, 0.025, 0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 900, 1800)
TO_RECOVERY_BUCKETS = (5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


class Metrics:
    """Every metric of design section 8 that this version has something to say about, in a registry of its own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for every counter, which nobody asks for
        self.registry = registry = CollectorRegistry()

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"remediator_{name}", what, labels, registry=registry)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"remediator_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"remediator_{name}", what, labels, buckets=buckets, registry=registry)

        self.webhooks = counter("webhooks_total", "Webhook requests by HTTP status code.", "code")
        self.alerts = counter("alerts_total", "Alerts accepted, by their own status.", "status")
        self.alerts_rejected = counter("alerts_rejected_total", "Alerts in good messages that could not be used.", "reason")
        self.episodes_open = gauge("episodes_open", "Episodes that are open.")
        self.decisions = counter("decisions_total", "Decisions, when they change.", "playbook", "decision", "reason")
        self.guard_verdicts = counter("guard_verdicts_total", "Verdicts of guards in decisions.", "guard", "verdict")
        self.actions = counter("actions_total", "Steps that were called, by outcome.", "playbook", "step", "outcome")
        self.action_seconds = histogram("action_duration_seconds", "Duration of the call.", ACTION_BUCKETS, "step")
        self.verifications = counter("verifications_total", "Verifications, by outcome.", "playbook", "outcome")
        self.to_action = histogram("time_to_action_seconds", "From opening of the episode to the call.", TO_ACTION_BUCKETS)
        self.to_recovery = histogram(
            "time_to_recovery_seconds", "From opening to resolve, by whether remediator acted.", TO_RECOVERY_BUCKETS,
            "playbook", "handled",
        )  # fmt: skip
        self.breakers_open = gauge("breakers_open", "Breakers of this playbook that are open.", "playbook")
        self.rate_remaining = gauge("rate_remaining", "Actions that the playbook's limits leave now.", "playbook")
        self.approvals_pending = gauge("approvals_pending", "Runs that wait for a person's answer.")
        self.approvals = counter("approvals_total", "Answers of people to questions about plans.", "answer")
        self.runs_in_doubt = gauge("runs_in_doubt", "Runs of which a step may or may not have happened.")
        self.mode_info = gauge("mode_info", "1 for the mode that is in force.", "mode")
        self.escalations = counter("escalations_total", "Escalations to people.", "severity", "outcome")
        self.annotations = counter("annotations_total", "Deliveries to Grafana.", "outcome")
        self.notifications = counter("notifications_total", "Deliveries of messages to people.", "outcome")
        self.reconcile_drift = counter("reconcile_drift_total", "What only Alertmanager's list told, by kind.", "kind")
        self.neighbour_up = gauge(
            "neighbour_up", "1 if the neighbour answered when it was last asked for everything.", "neighbour"
        )
        self.maintenance_windows = gauge(
            "maintenance_windows", "Maintenance windows, by whether it is their time now.", "state"
        )
        self.watchdog_missing = gauge("watchdog_missing", "1 while the expected Watchdog alert is not heard of: auto is off.")
        self.watchdog_seen_at = gauge(
            "watchdog_last_seen_timestamp_seconds", "When an alert called Watchdog was last heard, 0 if never."
        )
        self.forgotten = counter("forgotten_rows_total", "Rows of the store that retention deleted.")
        self.store_up = gauge("store_up", "1 while the store can be written.")
        self.paused = gauge("paused", "1 while remediator is paused.")
        self.build_info = gauge("build_info", "1, with the version.", "version")
        self.reload_ok = gauge("config_last_reload_successful", "1 if the last reload of playbooks was successful.")
        self.reload_at = gauge("config_last_reload_success_timestamp_seconds", "When playbooks were last loaded.")
        self.build_info.labels(__version__).set(1)

    def mode_is(self, mode: Mode) -> None:
        for each in Mode:
            self.mode_info.labels(each).set(each is mode)


def trace_id_of(run: str) -> str:
    """A W3C trace id that follows from the run's id, so that logs of every process about a run have the same."""
    return sha256(run.encode()).hexdigest()[:32]


def about(run: Run) -> dict[str, Any]:
    """What every log event of a run carries."""
    return {
        "run": run.id,
        "episode": run.episode.id,
        "alertname": run.episode.labels.get("alertname", ""),
        "playbook": run.playbook,
        "target": run.target,
        "rung": run.rung,
        "trace_id": trace_id_of(run.id),
    }


class Telemetry:
    """Tells what happened to a run, in logs and metrics at once."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self.metrics = metrics
        self.log = log

    def decided(self, run: Run, decision: Decision, commands: Sequence[str] = ()) -> None:
        """A decision that is new for this run, and the commands that it leaves to people."""
        self.metrics.decisions.labels(run.playbook, decision.kind, decision.reason).inc()
        for given in decision.verdicts:
            self.metrics.guard_verdicts.labels(given.guard, type(given.verdict).__name__.lower()).inc()
        shown = {"commands": list(commands)} if commands else {}
        facts = {"decision": decision.kind, "reason": decision.reason, "seen": decision.seen, **shown}
        self.log.info("decision.taken", **about(run), **facts)

    def answered(self, run: Run, approval: Approval) -> None:
        """A person has approved or rejected a plan."""
        answer = "approved" if approval.granted else "rejected"
        self.metrics.approvals.labels(answer).inc()
        self.log.warning(f"plan.{answer}", **about(run), plan=approval.plan, by=approval.by, why=approval.why)

    def unmatched(self, count: int) -> None:
        """Alerts that no playbook matches."""
        self.metrics.decisions.labels("", "refuse", "no_playbook").inc(count)

    def calling(self, run: Run, step: str, command: str, seconds_since_opened: float) -> None:
        self.metrics.to_action.observe(seconds_since_opened)
        self.log.info("step.go", **about(run), step=step, command=command)

    def called(self, run: Run, step: str, outcome: str, said: str, seconds: float) -> None:
        self.metrics.actions.labels(run.playbook, step, outcome).inc()
        self.metrics.action_seconds.labels(step).observe(seconds)
        tell = self.log.info if outcome == "done" else self.log.warning
        tell(
            "step.done" if outcome == "done" else "step." + outcome,
            **about(run),
            step=step,
            said=said,
            seconds=round(seconds, 3),
        )

    def verified(self, run: Run, outcome: str, seen: str) -> None:
        self.metrics.verifications.labels(run.playbook, outcome).inc()
        self.log.info("run.verification", **about(run), outcome=outcome, seen=seen)

    def ended(self, run: Run) -> None:
        """A run reached its end."""
        tell: Callable[..., Any] = self.log.warning if run.state == "escalated" else self.log.info
        tell("run." + run.state, **about(run), reason=run.reason)

    def recovered(self, playbook: str, seconds: float, *, acted: bool) -> None:
        """An episode is over, so many seconds after it was opened."""
        self.metrics.to_recovery.labels(playbook, "yes" if acted else "no").observe(seconds)

    def drifted(self, counts: Mapping[str, int]) -> None:
        """What the messages had not told and Alertmanager's list did, by kind."""
        for kind, count in counts.items():
            self.metrics.reconcile_drift.labels(kind).inc(count)
        self.log.info("reconcile.drift", **counts)

    def raised(self, severity: str) -> None:
        """People are told of a run."""
        self.metrics.escalations.labels(severity, "raised").inc()
