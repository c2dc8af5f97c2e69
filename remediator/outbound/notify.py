"""The escalation webhook: what people get to know when remediator could not, or must not, go on alone."""

from typing import TypedDict

from aiohttp import ClientSession

from remediator.outbound.exchange import Neighbour
from remediator.ports import Message


class EscalationPayload(TypedDict):
    """The payload of a message of Channel.ESCALATION, and the JSON object that is posted, field by field."""

    run: str
    episode: int
    playbook: str
    escalate_to: str
    """Whom the playbook names, or empty."""
    labels: dict[str, str]
    """The alert's."""
    annotations: dict[str, str]
    """The alert's."""
    target: str
    """The workload's id, or empty if none was found."""
    severity: str
    """The alert's severity if it is one of the usual words, else `other`."""
    reason: str
    """A word of `core.verdict.Reason`."""
    summary: str
    tried: list[str]
    """What was decided, done and seen, in order."""
    commands: list[str]
    """What a person could type."""
    runbook: str
    """The address or path of the page to follow, or empty."""


class EscalationWebhook:
    """Implements `ports.Announcer`: POST of an `EscalationPayload`, with the message's key as `Idempotency-Key`.

    A receiver should answer 2xx once it has taken the message, and treat the same key as the same escalation: after a
    timeout or a 5xx the message comes again. Any 4xx but 408, 425 and 429 drops it. Receipts are empty.
    """

    def __init__(self, session: ClientSession, url: str, token: str = "") -> None:
        self._receiver = Neighbour("the escalation webhook", session, url, token)

    async def deliver(self, message: Message) -> str:
        answer = await self._receiver.ask("POST", body=dict(message.payload), headers={"Idempotency-Key": message.key})
        if not answer.ok:
            raise self._receiver.refusal(answer)
        return ""
