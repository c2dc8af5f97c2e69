"""Alertmanager's own view of what fires (API v2: https://github.com/prometheus/alertmanager, api/v2/openapi.yaml)."""

import re
from collections.abc import Mapping

from aiohttp import ClientSession

from remediator.outbound.exchange import Neighbour
from remediator.ports import PermanentError

CLASSIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Label names that a matcher may spell without quotes. Matchers of other names are not understood before 0.27."""

EVERY_STATE = (("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true"))


class AlertmanagerClient:
    """Implements `ports.AlertSource`. Reads only."""

    def __init__(self, session: ClientSession, url: str) -> None:
        self._alertmanager = Neighbour("Alertmanager", session, url)

    async def is_firing(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with exactly these labels is listed: resolved ones are not, silenced and inhibited ones are.

        Raises TransientError or PermanentError.
        """
        # Filters match every alert that has these labels and more: they narrow the answer, and equality decides.
        filters = [("filter", f'{name}="{_quoted(value)}"') for name, value in labels.items() if CLASSIC_NAME.fullmatch(name)]
        answer = await self._alertmanager.ask("GET", "/api/v2/alerts", query=[*EVERY_STATE, *filters])
        if not answer.ok:
            raise self._alertmanager.refusal(answer)
        try:
            return any(alert["labels"] == dict(labels) for alert in answer.json())
        except (KeyError, TypeError) as error:
            raise PermanentError(f"not the answer of an Alertmanager: {answer.said!r}") from error


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
