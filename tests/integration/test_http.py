"""HTTP and TCP probes, against real sockets on loopback."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from remediator.core.redis_step import RedisPing
from remediator.core.step import Http, Restart, Tcp
from remediator.core.target import Selection, Workload
from remediator.platforms.services.http import BODY_BYTES_SHOWN, NetworkProbes
from remediator.ports import PermanentError, Probe
from remediator.settings import ServiceEndpoints
from tests.servers import free_port

API = Workload("docker", "service", "shop/api", service="api")


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/health":
            return web.Response(text=f"all is well, {request.query_string}")
        case "/moved":
            raise web.HTTPFound("/health")
        case "/large":
            return web.Response(body=b"x" * 1_000_000)
        case "/slow":
            await asyncio.sleep(30)
    return web.Response(status=503, text="database is down")


@pytest.fixture
async def api() -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield server


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def probes(api, session) -> NetworkProbes:
    return NetworkProbes({"api": ServiceEndpoints(http=str(api.make_url("/health")), tcp=f"{api.host}:{api.port}")}, session)


@pytest.fixture
def deaf(session) -> NetworkProbes:
    port = free_port()
    return NetworkProbes({"api": ServiceEndpoints(http=f"http://127.0.0.1:{port}/", tcp=f"127.0.0.1:{port}")}, session)


async def test_the_check_holds_on_the_expected_status(probes):
    assert (await probes.check(Http(), API)).probe is Probe.HOLDS
    assert (await probes.check(Http(path="/broken"), API)).probe is Probe.FAILS
    assert (await probes.check(Http(path="/broken", status=503), API)).probe is Probe.HOLDS


async def test_redirects_are_answers_and_not_followed(probes):
    assert (await probes.check(Http(path="/moved"), API)).probe is Probe.FAILS
    assert (await probes.check(Http(path="/moved", status=302), API)).probe is Probe.HOLDS


async def test_a_path_replaces_path_and_query_and_never_the_host(probes, api):
    assert "well, deep=1" in (await probes.diagnose(Http(path="/health?deep=1"), API)).text
    evidence = await probes.diagnose(Http(path="//elsewhere.example/health"), API)
    assert f"GET http://{api.host}:{api.port}//elsewhere.example/health: 503" in evidence.text


async def test_the_evidence_shows_status_time_and_the_beginning_of_the_body(probes):
    evidence = await probes.diagnose(Http(path="/broken"), API)
    assert "503 Service Unavailable" in evidence.text
    assert evidence.text.endswith("database is down")
    assert evidence.numbers["http.status"] == 503
    assert 0 < evidence.numbers["http.seconds"] < 5
    assert (await probes.diagnose(Http(path="/large"), API)).text.count("x") == BODY_BYTES_SHOWN


async def test_a_slow_answer_is_given_up_on(probes, monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.http.TIMEOUT_S", 0.1)
    assert (await probes.check(Http(path="/slow"), API)).seen == "no answer within 0.1s"
    assert (await probes.diagnose(Http(path="/slow"), API)).numbers == {"http.status": 0}


async def test_a_refused_connection_fails_the_checks_and_is_evidence(deaf):
    for check in (Http(), Tcp()):
        reading = await deaf.check(check, API)
        assert reading.probe is Probe.FAILS
        assert reading.seen == "no answer: connection refused"
    assert (await deaf.diagnose(Http(), API)).numbers == {"http.status": 0}


async def test_a_name_that_does_not_resolve_fails_like_a_stopped_container(session):
    gone = NetworkProbes({"api": ServiceEndpoints(http="http://api.invalid/", tcp="api.invalid:80")}, session)
    assert (await gone.check(Http(), API)).probe is Probe.FAILS
    assert (await gone.check(Tcp(), API)).probe is Probe.FAILS


async def test_tcp_holds_when_a_connection_is_accepted(probes, api):
    reading = await probes.check(Tcp(), API)
    assert reading.probe is Probe.HOLDS
    assert reading.seen == f"{api.host}:{api.port} accepts connections"


@pytest.mark.parametrize("address", ["api", "api:http", ":80", "api:80000"])
async def test_a_malformed_tcp_address_is_unknown(session, address):
    probes = NetworkProbes({"api": ServiceEndpoints(tcp=address)}, session)
    assert (await probes.check(Tcp(), API)).seen == "services.api.tcp is not an address; write host:port"


async def test_an_endpoint_that_is_not_configured_says_what_to_add(probes):
    unknown = Workload("docker", "container", "x", service="x")
    words = "no http address is configured for service 'x'; add services.x.http"
    assert (await probes.diagnose(Http(), unknown)).text == words
    assert (await probes.check(Http(), unknown)).seen == words
    assert (await probes.check(Tcp(), unknown)).probe is Probe.UNKNOWN
    assert (await probes.check(Http(endpoint="api"), unknown)).probe is Probe.HOLDS
    assert "names no service" in (await probes.check(Http(), Workload("docker", "container", "y"))).seen


async def test_a_probe_is_described_as_a_command(probes, api):
    assert probes.describe(Http(), API) == f"curl -sSi --max-time 5 http://{api.host}:{api.port}/health"


async def test_probes_find_nothing_and_take_no_steps(probes):
    assert await probes.find(Selection({"service": "api"})) == ()
    assert (await probes.check(RedisPing(), API)).probe is Probe.UNKNOWN
    for ask in (probes.mark(Restart(), API), probes.observe(Restart(), API, {})):
        with pytest.raises(PermanentError):
            await ask
