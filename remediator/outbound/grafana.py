"""Grafana annotations: one for each run, created when it begins and kept up to date until it ends.

Grafana offers no idempotency key. Each annotation carries the tag `run:<id>`, by which a delivery that may have arrived
is found again. API: https://grafana.com/docs/grafana/latest/developers/http_api/annotations/.
"""

from html import escape
from typing import Any, TypedDict, cast

from aiohttp import ClientSession

from remediator.outbound.exchange import Answer, Neighbour
from remediator.ports import Message, PermanentError, PortError

PERMISSIONS = "the token needs annotations:read, annotations:create and annotations:write on annotations:type:organization"


class AnnotationPayload(TypedDict):
    """The payload of a message of Channel.ANNOTATION. Times are Unix times in milliseconds."""

    run: str
    time: int
    time_end: int | None
    """None while the run goes on."""
    tags: list[str]
    """What dashboards filter by; `run:<id>` is added if it is not among them."""
    text: str
    """Grafana shows it as HTML, which it sanitises."""


class GrafanaAnnotations:
    """Implements `ports.Announcer`; the receipt is the annotation's id. `token` is a service account's."""

    def __init__(self, session: ClientSession, url: str, token: str) -> None:
        self._grafana = Neighbour("Grafana", session, url, token)

    async def deliver(self, message: Message) -> str:
        payload = cast(AnnotationPayload, message.payload)
        tag = f"run:{payload['run']}"
        body = _body(payload, tag)
        if message.receipt and await self._patch(message.receipt, body):
            return message.receipt
        # Without a receipt, a first attempt cannot have arrived before; with one, the annotation was deleted.
        if message.receipt or message.attempts > 1:
            for known in await self._find(tag):
                if await self._patch(known, body):
                    return known
        return await self._create(body)

    async def _patch(self, annotation: str, body: dict[str, Any]) -> bool:
        """False if there is no such annotation (any more)."""
        answer = await self._grafana.ask("PATCH", f"/api/annotations/{annotation}", body=body)
        if answer.status == 404:
            return False
        if not answer.ok:
            raise self._refusal(answer, "annotations:write")
        return True

    async def _find(self, tag: str) -> list[str]:
        """Ids of the annotations with the tag, the oldest first."""
        answer = await self._grafana.ask("GET", "/api/annotations", query=[("tags", tag), ("type", "annotation")])
        if not answer.ok:
            raise self._refusal(answer, "annotations:read")
        try:
            return [str(found) for found in sorted(int(entry["id"]) for entry in answer.json())]
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(f"not the answer of a Grafana: {answer.said!r}") from error

    async def _create(self, body: dict[str, Any]) -> str:
        answer = await self._grafana.ask("POST", "/api/annotations", body=body)
        if not answer.ok:
            raise self._refusal(answer, "annotations:create")
        try:
            return str(int(answer.json()["id"]))
        except (KeyError, TypeError, ValueError) as error:
            raise PermanentError(f"not the answer of a Grafana: {answer.said!r}") from error

    def _refusal(self, answer: Answer, permission: str) -> PortError:
        match answer.status:
            case 401:
                advice = "the token is unknown, expired or revoked"
            case 403 if permission == "annotations:write":
                # Grafana looks up an annotation's type to check a narrow scope, and denies when there is none.
                advice = f"the token lacks {permission}, or the annotation was deleted; {PERMISSIONS}"
            case 403:
                advice = f"the token lacks {permission}; {PERMISSIONS}"
            case _:
                advice = ""
        return self._grafana.refusal(answer, advice)


def _body(payload: AnnotationPayload, tag: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "time": payload["time"],
        "tags": list(dict.fromkeys([tag, *payload["tags"]])),
        # Grafana shows the text as HTML: a line break must be one, and what an alert says must not become markup.
        "text": "<br>\n".join(escape(line, quote=False) for line in payload["text"].splitlines()),
    }
    if payload["time_end"] is not None:
        body["timeEnd"] = payload["time_end"]
    return body
