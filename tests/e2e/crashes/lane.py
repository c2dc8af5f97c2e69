"""A lane of the crash test: round after round on one scene, which keeps its store from the first to the last."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from tests.builders import webhook_alert, webhook_message
from tests.e2e.crashes.aims import WITHIN_SECONDS, Aim, sighted
from tests.e2e.crashes.blows import Blow, kill, strike
from tests.e2e.crashes.judge import judge
from tests.e2e.crashes.scene import Scene
from tests.e2e.remediator_process import RemediatorProcess

ALERTS_MAX = 3
ACCEPTED_SECONDS_MAX = 30.0
TAKEN, UNAVAILABLE, NO_ANSWER = 200, 503, 0
Alerts = dict[str, dict[str, Any]]
"""By the service that each is about."""


class Lane:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._accepted: set[str] = set()
        """Services whose alert was answered 200 by any replica."""

    def round(self, number: int, blow: Blow, aim: Aim) -> None:
        scene, chance = self._scene, self._scene.chance
        alerts = self._alerts(number, ALERTS_MAX if blow is Blow.SUSPEND else 1)
        self._accepted.clear()
        with sighted(aim, scene.replicas, scene.events) as sight:
            with self._posted_meanwhile(alerts, silent_allowed=blow is not Blow.CRASH_DATABASE):
                sight.wait()
                strike(scene, blow, aim, sight.seen_at)
            scene.tally.accepted += len(self._accepted)
        if chance.random() < 0.4:
            # Alertmanager sends again what was not answered, and sometimes what was.
            again = {
                service: alert for service, alert in alerts.items() if service not in self._accepted or chance.random() < 0.5
            }
            with self._posted_meanwhile(again):
                sleep(chance.uniform(0, WITHIN_SECONDS[Aim.RECOVERING]))
                kill(scene, [chance.choice(scene.replicas)], Aim.RECOVERING)
        self._post_until_accepted(alerts)
        judge(scene, list(alerts))
        for service in alerts:
            scene.containers.client.remove_container(service, force=True)
        scene.tally.rounds += 1
        scene.tally.alerts += len(alerts)

    def _alerts(self, number: int, at_least: int) -> Alerts:
        """Each about a container of its own."""
        alerts = {}
        for one in range(self._scene.chance.randint(at_least, ALERTS_MAX)):
            name = f"{number}-{one}"
            self._scene.containers.run(name, Labels={"remediator.io/allow": "restart"})
            service = self._scene.containers.name(name)
            alerts[service] = webhook_alert(starts_at=datetime.now(UTC), alertname="WebDown", service=service)
        return alerts

    @contextmanager
    def _posted_meanwhile(self, alerts: Alerts, *, silent_allowed: bool = True) -> Iterator[None]:
        """The same messages to every replica, as both of a pair of Alertmanagers send them; sometimes one of them is down."""
        replicas = self._scene.replicas
        if self._scene.chance.random() < 0.25:
            replicas = [self._scene.chance.choice(replicas)]
        messages = self._messages(alerts)
        with ThreadPoolExecutor(len(replicas)) as alertmanagers:
            posting = [alertmanagers.submit(self._post, replica, messages) for replica in replicas]
            yield
        self._count(posting, silent_allowed=silent_allowed)

    def _messages(self, alerts: Alerts) -> Sequence[tuple[tuple[str, ...], bytes]]:
        """All in one, or one each."""
        services = tuple(alerts)
        together = len(services) > 1 and self._scene.chance.random() < 0.5
        groups = [services] if together else [(service,) for service in services]
        return [(group, webhook_message(*(alerts[service] for service in group))) for group in groups if group]

    @staticmethod
    def _post(
        replica: RemediatorProcess, messages: Sequence[tuple[tuple[str, ...], bytes]]
    ) -> list[tuple[tuple[str, ...], int]]:
        return [(services, replica.post(message)) for services, message in messages]

    def _count(self, posting: Sequence[Future[list[tuple[tuple[str, ...], int]]]], *, silent_allowed: bool) -> None:
        allowed = {TAKEN, UNAVAILABLE, *([NO_ANSWER] if silent_allowed else [])}
        for services, status in (answer for each in posting for answer in each.result()):
            self._scene.tally.answers[status] += 1
            if status == TAKEN:
                self._accepted.update(services)
            if status not in allowed:
                self._scene.problems.append(f"answered with {status}: {', '.join(services)}")

    def _post_until_accepted(self, alerts: Alerts) -> None:
        """As Alertmanager does with what was not answered 200. What was is not sent again: it must not be lost."""
        ends_at = monotonic() + ACCEPTED_SECONDS_MAX
        while left := {service: alert for service, alert in alerts.items() if service not in self._accepted}:
            with self._posted_meanwhile(left):
                pass
            if monotonic() > ends_at:
                self._scene.problems.append(f"not accepted any more: {', '.join(left)}")
                return
            sleep(0.05)
