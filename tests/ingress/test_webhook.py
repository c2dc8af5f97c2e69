"""POST /webhook over real sockets: what is answered, and that a 200 is never said before the alerts are safe."""

import asyncio
import base64
import gzip
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from remediator.ingress.payload import parse
from tests.builders import webhook_alert, webhook_message
from tests.fakes import Harness, harness

TOKEN = "Authorization: Bearer webhook-secret\r\n"
SECONDS = 5


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def answers(h: Harness, *sent: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    """Status and body of the next `count` answers on one connection to which `sent` was written."""
    async with asyncio.timeout(SECONDS), connection(h.app.port) as (reader, writer):
        for part in sent:
            writer.write(part)
            await writer.drain()
        return [await answer(reader) for _ in range(count)]


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.partition(":")[2]) for line in head.splitlines() if line.lower().startswith("content-length:"))
    return int(head.split()[1]), await reader.readexactly(length)


def request(body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    lines = [f"Content-Length: {len(body) if length is None else length}", "Authorization: Bearer webhook-secret", *headers]
    return "\r\n".join(["POST /webhook HTTP/1.1", "Host: remediator", *lines, "", ""]).encode() + body


def accepted(directory: Path) -> int:
    """Episodes and messages that are in the file, as another process sees them."""
    with sqlite3.connect(f"file:{directory / 'remediator.db'}?mode=ro", uri=True) as connection:
        ((inbox, episodes),) = connection.execute("SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM episodes)")
    connection.close()
    return inbox + episodes


class TestAccepted:
    async def test_a_200_means_that_the_alerts_are_in_the_file(self, tmp_path):
        async with harness(tmp_path) as h:
            for number in range(20):
                assert await h.post(webhook_message(webhook_alert(alertname="Unknown", instance=str(number)))) == 200
                assert accepted(tmp_path) == number + 1

    async def test_the_answer_says_how_many_were_taken(self, tmp_path):
        async with harness(tmp_path) as h:
            body = webhook_message(webhook_alert(), {"status": "odd"})
            ((status, said),) = await answers(h, request(body))
            assert (status, json.loads(said)) == (200, {"accepted": 1, "rejected": 1})
            assert 'remediator_alerts_rejected_total{reason="malformed"} 1.0' in await h.metrics()
            assert 'remediator_alerts_total{status="firing"} 1.0' in await h.metrics()
            assert "alert.rejected" in h.log.names()

    async def test_a_message_of_which_every_alert_is_bad_is_answered_200_since_sending_it_again_would_not_help(self, tmp_path):
        async with harness(tmp_path) as h:
            assert await h.post(webhook_message({"status": "odd"})) == 200

    @pytest.mark.parametrize("name", ["alertmanager/group", "alertmanager/mixed", "grafana/firing"])
    async def test_real_messages_are_taken(self, tmp_path, name):
        body = (Path(__file__).parent.parent / "data" / f"{name}.json").read_bytes()
        async with harness(tmp_path, webhook_token_file=None) as h:
            assert await h.post(body) == 200
            count = len(parse(body).alerts)
            metrics = await h.metrics()
            assert sum(float(line.split()[-1]) for line in metrics.splitlines() if "remediator_alerts_total{" in line) == count

    async def test_a_chunked_body_is_taken(self, tmp_path):
        body = webhook_message()
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:])) + b"0\r\n\r\n"
        head = f"POST /webhook HTTP/1.1\r\nHost: r\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n".encode()
        async with harness(tmp_path) as h:
            ((status, _),) = await answers(h, head, chunks)
            assert status == 200

    async def test_requests_that_follow_each_other_on_one_connection_are_all_answered_in_order(self, tmp_path):
        sent = b"".join(request(body) for body in (webhook_message(), b"nonsense", webhook_message()))
        async with harness(tmp_path) as h:
            assert [status for status, _ in await answers(h, sent, count=3)] == [200, 400, 200]

    async def test_a_body_that_comes_byte_by_byte_is_taken(self, tmp_path):
        body = webhook_message()
        async with harness(tmp_path) as h:
            ((status, _),) = await answers(h, request(length=len(body)), *(bytes([byte]) for byte in body))
            assert status == 200


class TestRefused:
    """4xx are not retried by Alertmanager, and sent again with every `group_interval`: they must be deserved."""

    @pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"[" * 100_000, b'{"version":"4"}', b"\xff"])
    async def test_400_for_what_is_not_a_message_with_a_short_reason(self, tmp_path, body):
        async with harness(tmp_path) as h:
            ((status, said),) = await answers(h, request(body))
            assert status == 400
            assert json.loads(said)["error"].startswith("not an Alertmanager or Grafana webhook message")
            assert len(said) < 500
            assert 'remediator_webhooks_total{code="400"} 1.0' in await h.metrics()

    async def test_400_for_a_chunked_body_that_is_not_chunked_and_the_server_goes_on(self, tmp_path):
        head = f"POST /webhook HTTP/1.1\r\nHost: r\r\n{TOKEN}Transfer-Encoding: chunked\r\n\r\n".encode()
        async with harness(tmp_path) as h:
            ((status, _),) = await answers(h, head, b"zz\r\nnot chunked\r\n")
            assert status == 400
            assert await h.post(webhook_message()) == 200

    async def test_408_for_a_body_that_stays_away_and_the_connection_is_closed(self, tmp_path):
        short = timedelta(milliseconds=200)
        async with (
            harness(tmp_path, body_timeout=short) as h,
            connection(h.app.port) as (reader, writer),
            asyncio.timeout(SECONDS),
        ):
            writer.write(request(b'{"version"', length=1000))
            status, said = await answer(reader)
            assert (status, "0.2 s" in json.loads(said)["error"]) == (408, True)
            assert await reader.read() == b""

    async def test_413_for_a_body_over_the_limit_that_says_what_to_set(self, tmp_path):
        async with harness(tmp_path, max_body_bytes=2048) as h:
            ((status, said),) = await answers(h, request(b"x" * 3000))
            assert status == 413
            assert "REMEDIATOR_MAX_BODY_BYTES" in json.loads(said)["error"]

    async def test_a_body_just_at_the_limit_is_read(self, tmp_path):
        body = webhook_message()
        async with harness(tmp_path, max_body_bytes=2048) as h:
            assert await h.post(body + b" " * (2048 - len(body))) == 200

    @pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity"])
    async def test_415_for_a_compressed_body(self, tmp_path, encoding):
        async with harness(tmp_path) as h:
            ((status, _),) = await answers(h, request(b"x", f"Content-Encoding: {encoding}"))
            assert status == 415

    async def test_a_compressed_body_is_not_even_unpacked(self, tmp_path):
        bomb = gzip.compress(bytes(10_000_000))
        async with harness(tmp_path, max_body_bytes=1024) as h:
            ((status, _),) = await answers(h, request(bomb, "Content-Encoding: gzip"))
            assert status == 415

    async def test_a_get_is_not_a_message(self, tmp_path):
        async with harness(tmp_path) as h, h.session.get(f"{h.url}/webhook") as response:
            assert response.status == 405

    async def test_a_client_that_goes_away_in_the_middle_leaves_no_trace(self, tmp_path):
        async with harness(tmp_path) as h:
            async with connection(h.app.port) as (_, writer):
                writer.write(request(b'{"version"', length=1000))
                await writer.drain()
            assert await h.post(webhook_message()) == 200


class TestAuthentication:
    @pytest.fixture
    def basic(self, tmp_path) -> Path:
        path = tmp_path / "basic"
        path.write_text("alertmanager:pässword:with:colons\n")
        return path

    @pytest.mark.parametrize(
        "authorization",
        [
            "", "Bearer", "Bearer ", "Bearer wrong", "Bearer webhook-secret2", "bearer  ", "webhook-secret",
            "Basic d2ViaG9vay1zZWNyZXQ=", "Basic %%%", "Basic /w==", "Bearer wébhook",
        ],
    )  # fmt: skip
    async def test_whoever_does_not_know_the_secret_is_refused(self, tmp_path, basic, authorization):
        async with harness(tmp_path, webhook_basic_file=basic) as h:
            assert await h.post(webhook_message(), headers={"Authorization": authorization}) == 401
            assert accepted(tmp_path) == 0

    async def test_a_bearer_token_is_enough(self, tmp_path):
        async with harness(tmp_path) as h:
            assert await h.post(webhook_message(), headers={"Authorization": "Bearer webhook-secret"}) == 200

    async def test_basic_credentials_are_enough_whatever_is_in_the_password(self, tmp_path, basic):
        credentials = base64.b64encode("alertmanager:pässword:with:colons".encode()).decode()
        async with harness(tmp_path, webhook_token_file=None, webhook_basic_file=basic) as h:
            assert await h.post(webhook_message(), headers={"Authorization": f"Basic {credentials}"}) == 200
            assert await h.post(webhook_message(), headers={"Authorization": "Bearer "}) == 401

    async def test_a_refused_sender_is_refused_before_its_body_is_read(self, tmp_path):
        async with harness(tmp_path) as h:
            head = b"POST /webhook HTTP/1.1\r\nHost: r\r\nContent-Length: 1000\r\n\r\n"
            ((status, _),) = await answers(h, head)
            assert status == 401

    async def test_the_secret_is_in_no_log_line_and_in_no_answer(self, tmp_path):
        async with harness(tmp_path) as h:
            await h.post(webhook_message())
            await h.post(webhook_message(), headers={"Authorization": "Bearer guess"})
            assert "webhook-secret" not in str(h.log.events)


class TestSlowSenders:
    async def test_half_sent_headers_hold_up_nobody_else(self, tmp_path):
        async with harness(tmp_path) as h:
            waiting = [connection(h.app.port) for _ in range(100)]
            opened = [await each.__aenter__() for each in waiting]
            for _, writer in opened:
                writer.write(b"POST /webhook HTTP/1.1\r\nHost: r")
            assert await h.post(webhook_message()) == 200
            for each in waiting:
                await each.__aexit__(None, None, None)

    @pytest.mark.parametrize("sent", [b"", b"POST /web", b"GET / HTTP/1.1\r\nHost: r\r\n\r\nPOST /web"])
    async def test_the_server_closes_what_sends_no_whole_request_for_as_long_as_an_idle_connection(self, sent):
        """aiohttp 3.14 counts `keepalive_timeout` from the accept on; app.py leans on that."""
        application = web.Application()
        runner = web.AppRunner(application, access_log=None, keepalive_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(SECONDS), connection(runner.addresses[0][1]) as (reader, writer):
            writer.write(sent)
            while await reader.read(4096):
                pass
        await runner.cleanup()
