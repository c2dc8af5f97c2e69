"""Alertmanager's own view of what fires (API v2: https://github.com/prometheus/alertmanager, api/v2/openapi.yaml)."""

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientSession

from remediator.core.snapshot import Listing
from remediator.core.verdict import Reason
from remediator.outbound.exchange import Neighbour
from remediator.ports import PermanentError

CLASSIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Label names that a matcher may spell without quotes. Matchers of other names are not understood before 0.27."""

EVERY_STATE = (("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true"))


class AlertmanagerClient:
    """Implements `ports.AlertSource`. Reads only."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._alertmanager = Neighbour("Alertmanager", session, url)

    async def look(self, labels: Mapping[str, str]) -> Listing:
        """An alert with exactly these labels as it is listed: resolved ones are not, silenced and inhibited ones are.

        Raises TransientError or PermanentError.
        """
        # Filters match every alert that has these labels and more: they narrow the answer, and equality decides.
        filters = [("filter", f'{name}="{_quoted(value)}"') for name, value in labels.items() if CLASSIC_NAME.fullmatch(name)]
        answer = await self._alertmanager.ask("GET", "/api/v2/alerts", query=[*EVERY_STATE, *filters])
        if not answer.ok:
            raise self._alertmanager.refusal(answer)
        try:
            listed = [alert["status"] for alert in answer.json() if alert["labels"] == dict(labels)]
            return _listing(listed[0]) if listed else Listing(firing=False)
        except (KeyError, TypeError) as error:
            raise PermanentError(f"not the answer of an Alertmanager: {answer.said!r}") from error


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
