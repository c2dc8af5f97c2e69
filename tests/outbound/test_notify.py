"""The escalation webhook, against a real HTTP server."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from remediator.outbound.exchange import ANSWER_BYTES_MAX
from remediator.outbound.notify import EscalationPayload, EscalationWebhook
from remediator.ports import Channel, Message, PermanentError, TransientError
from tests.servers import free_port

PAYLOAD = EscalationPayload(
    run="r1",
    episode=7,
    playbook="redis-down",
    escalate_to="cache",
    labels={"alertname": "RedisDown", "service": "cache"},
    annotations={"summary": "Redis is down"},
    target="docker:service/shop/cache",
    severity="critical",
    reason="ladder_exhausted",
    summary="The cache does not answer after a restart.",
    tried=["restart: done, not verified"],
    commands=["docker restart shop-cache-1"],
    runbook="docs/runbooks/redis-down.md",
)
MESSAGE = Message(key="escalation:r1", channel=Channel.ESCALATION, payload=PAYLOAD, attempts=1)


@dataclass
class Receiver:
    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    received: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.json()))
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hooks/oncall", receiver.take)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url("/hooks/oncall"))
        yield receiver


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def test_the_payload_is_posted_as_it_is_documented_with_an_idempotency_key(receiver, session):
    assert await EscalationWebhook(session, receiver.url, "secret").deliver(MESSAGE) == ""
    ((headers, body),) = receiver.received
    assert body == PAYLOAD
    assert headers["Idempotency-Key"] == "escalation:r1"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"


async def test_without_a_token_none_is_sent(receiver, session):
    await EscalationWebhook(session, receiver.url).deliver(MESSAGE)
    assert "Authorization" not in receiver.received[0][0]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410, 422])
async def test_a_refusal_drops_the_message_and_says_why(receiver, session, status):
    receiver.status, receiver.body = status, b"no such team"
    receiver.headers = {"Location": "/elsewhere"}  # where a redirect would lead, with the token
    with pytest.raises(PermanentError, match=f"the escalation webhook answered {status}: no such team"):
        await EscalationWebhook(session, receiver.url).deliver(MESSAGE)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_pass_is_tried_again(receiver, session, status):
    receiver.status, receiver.headers = status, {"Retry-After": "5"}
    with pytest.raises(TransientError) as raised:
        await EscalationWebhook(session, receiver.url).deliver(MESSAGE)
    assert raised.value.retry_after == 5


async def test_a_date_to_wait_for_is_left_to_the_callers_own_patience(receiver, session):
    receiver.status, receiver.headers = 503, {"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}
    with pytest.raises(TransientError) as raised:
        await EscalationWebhook(session, receiver.url).deliver(MESSAGE)
    assert raised.value.retry_after is None


async def test_an_endless_answer_is_cut_off(receiver, session):
    receiver.status, receiver.body = 200, b"x" * (ANSWER_BYTES_MAX + 1)
    with pytest.raises(PermanentError, match="more than"):
        await EscalationWebhook(session, receiver.url).deliver(MESSAGE)


async def test_a_receiver_that_is_gone_is_tried_again(session):
    with pytest.raises(TransientError):
        await EscalationWebhook(session, f"http://127.0.0.1:{free_port()}/").deliver(MESSAGE)
