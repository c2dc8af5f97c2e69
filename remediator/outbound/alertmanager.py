"""Alertmanager's own view of what fires (API v2: https://github.com/prometheus/alertmanager, api/v2/openapi.yaml)."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import ClientSession

from remediator.core.alert import Alert, AlertStatus
from remediator.core.snapshot import Listing
from remediator.core.verdict import Reason
from remediator.outbound.exchange import Answer, Neighbour
from remediator.ports import Everything, ListedAlert, PermanentError, TransientError

CLASSIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Label names that a matcher may spell without quotes. Matchers of other names are not understood before 0.27."""

EVERY_STATE = (("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true"))

LIST_BYTES_MAX = 64 * 1024 * 1024
"""Some 50,000 alerts with all their annotations."""
LIST_SECONDS = 20.0
READ_AT_ONCE = 500
"""Alerts between two chances of the event loop to do something else: 5 ms."""


class AlertmanagerClient:
    """Implements `ports.AlertSource` and `ports.AlertList`. Reads only.

    `receiver` is what Alertmanager's configuration calls us. That it does not list an alert is believed once it has been up
    for `warm_up`: after its start it knows nothing until Prometheus has sent everything again.
    """

    def __init__(
        self,
        session: ClientSession,
        url: str,
        receiver: str = "remediator",
        warm_up: timedelta = timedelta(),
    ) -> None:
        self._alertmanager = Neighbour("Alertmanager", session, url)
        self._everything = replace(self._alertmanager, seconds=LIST_SECONDS, bytes_max=LIST_BYTES_MAX)
        self._receiver = receiver
        self._warm_up = warm_up

    async def look(self, labels: Mapping[str, str]) -> Listing:
        """An alert with exactly these labels as it is listed: resolved ones are not, silenced and inhibited ones are.

        Raises TransientError, while an alert that is not listed may only not have been heard of yet, too; or PermanentError.
        """
        # Filters match every alert that has these labels and more: they narrow the answer, and equality decides.
        filters = [("filter", f'{name}="{_quoted(value)}"') for name, value in labels.items() if CLASSIC_NAME.fullmatch(name)]
        told = await _get(self._alertmanager, "/api/v2/alerts", [*EVERY_STATE, *filters])
        try:
            listed = [alert["status"] for alert in told if alert["labels"] == dict(labels)]
            if listed:
                return _listing(listed[0])
        except (KeyError, TypeError) as error:
            raise _nonsense(told) from error
        if (up_for := await self._up_for()) < self._warm_up:
            raise TransientError(f"Alertmanager has been up for {up_for} only, and may not have heard of the alert yet")
        return Listing(firing=False)

    async def everything(self) -> Everything:
        """All that fires and is routed to our receiver; resolved alerts are not listed, silenced and inhibited ones are.

        Raises TransientError or PermanentError; so, too, where there is no such receiver: an empty list would look as if
        nothing fired any more.
        """
        receivers = await _get(self._alertmanager, "/api/v2/receivers")
        up_for = await self._up_for()
        # The parameter is a regular expression, and every receiver of an alert is listed whichever of them it matches.
        ours = [*EVERY_STATE, ("receiver", re.escape(self._receiver))]
        told = await _get(self._everything, "/api/v2/alerts", ours)
        try:
            names = [receiver["name"] for receiver in receivers]
        except (KeyError, TypeError) as error:
            raise _nonsense(receivers) from error
        if self._receiver not in names:
            known = ", ".join(map(str, names))
            raise PermanentError(
                f"Alertmanager has no receiver {self._receiver!r} (REMEDIATOR_ALERTMANAGER_RECEIVER), but {known}"
            )
        if not isinstance(told, list):
            raise _nonsense(told)
        alerts: list[ListedAlert] = []
        for first in range(0, len(told), READ_AT_ONCE):
            alerts += filter(None, map(_listed, told[first : first + READ_AT_ONCE]))
            await asyncio.sleep(0)
        return Everything(alerts, up_for, unreadable=len(told) - len(alerts))

    async def _up_for(self) -> timedelta:
        """From its start (which it calls `uptime`) to its answer, both by its own clock: ours may be another."""
        answer = await _ask(self._alertmanager, "/api/v2/status")
        try:
            began_at = _moment(answer.json()["uptime"])
        except (KeyError, TypeError, ValueError) as error:
            raise _nonsense(answer.said) from error
        if answer.at is None:
            raise _nonsense("an answer without a date")
        return max(answer.at - began_at, timedelta())  # a date is in whole seconds


async def _ask(alertmanager: Neighbour, path: str, query: Sequence[tuple[str, str]] = ()) -> Answer:
    answer = await alertmanager.ask("GET", path, query=query)
    if not answer.ok:
        raise alertmanager.refusal(answer)
    return answer


async def _get(alertmanager: Neighbour, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
    return (await _ask(alertmanager, path, query)).json()


def _listed(told: Any) -> ListedAlert | None:
    """None for what is no alert. Its `endsAt` is when it ends if it is not heard of again: no end."""
    try:
        labels, annotations = dict(told["labels"]), dict(told["annotations"])
        if not all(isinstance(text, str) for texts in (labels, annotations) for text in texts.values()):
            return None
        starts_at, fingerprint = _moment(told["startsAt"]), str(told["fingerprint"])
        alert = Alert(AlertStatus.FIRING, labels, annotations, starts_at, None, fingerprint, str(told.get("generatorURL", "")))
        return ListedAlert(alert, _listing(told["status"]))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        return None


def _moment(text: str) -> datetime:
    """A time with its zone. Raises ValueError or TypeError."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no zone")
    return at.astimezone(UTC)


def _nonsense(told: Any) -> PermanentError:
    return PermanentError(f"not the answer of an Alertmanager: {str(told)[:300]!r}")


def _listing(status: Mapping[str, Any]) -> Listing:
    """`silencedBy` names silences, `inhibitedBy` fingerprints of the alerts that inhibit; `mutedBy` time intervals (0.27)."""
    if by := status.get("silencedBy"):
        return Listing(True, f"silenced in Alertmanager, by {', '.join(by)}", Reason.SILENCED)
    if by := status.get("inhibitedBy"):
        return Listing(True, f"inhibited in Alertmanager, by {', '.join(by)}", Reason.INHIBITED)
    if by := status.get("mutedBy"):
        return Listing(True, f"muted in Alertmanager, by {', '.join(by)}", Reason.SILENCED)
    return Listing(firing=True)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
