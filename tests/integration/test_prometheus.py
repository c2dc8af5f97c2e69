"""PromQL as evidence and as a check, against a real Prometheus."""

from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from remediator.core.redis_step import RedisPing
from remediator.core.step import PromQL, Restart
from remediator.core.target import Selection, Workload
from remediator.outbound.prometheus import PrometheusClient
from remediator.ports import PermanentError, Probe, TransientError
from tests.servers import SCRAPE_NOTHING, eventually, free_port, prometheus_server

API = Workload("docker", "service", "shop/api", service="api")
RULES = """
groups:
  - name: shop
    interval: 1s
    rules:
      - {record: shop_sessions, expr: 'vector(7)', labels: {pool: main}}
      - {alert: APIDown, expr: 'vector(1)', labels: {service: api, severity: critical}}
      - {alert: APISlow, expr: 'vector(1)', for: 1h, labels: {service: api}}
      - {alert: Say "no"\\, expr: 'vector(1)'}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with prometheus_server(rules=RULES) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def prometheus(server, session) -> PrometheusClient:
    return PrometheusClient(session, server)


async def probe(prometheus: PrometheusClient, query: str) -> Probe:
    return (await prometheus.check(PromQL(query), API)).probe


async def test_a_check_holds_like_an_alert_expression_when_there_is_a_sample(prometheus):
    assert await probe(prometheus, "vector(1) == 1") is Probe.HOLDS
    assert await probe(prometheus, "vector(0)") is Probe.HOLDS  # a sample is a sample
    assert await probe(prometheus, "vector(1) == 2") is Probe.FAILS


@pytest.mark.parametrize(("query", "expected"), [("1", "holds"), ("0", "fails"), ("-0.5", "holds"), ("NaN", "fails")])
async def test_a_scalar_holds_unless_it_is_zero_or_no_number(prometheus, query, expected):
    assert await probe(prometheus, query) == expected


async def test_a_recorded_series_is_shown_with_its_labels_and_value(prometheus):
    async def is_recorded() -> bool:
        return await probe(prometheus, "shop_sessions") is Probe.HOLDS

    await eventually(is_recorded)
    evidence = await prometheus.diagnose(PromQL("shop_sessions"), API)
    assert evidence.text == 'shop_sessions\nshop_sessions{pool="main"} 7'
    assert evidence.numbers == {"promql.value": 7}


async def test_no_more_than_twenty_samples_are_shown(prometheus):
    numbers = " or ".join(f'label_replace(vector({n}), "n", "{n}", "", "")' for n in range(25))
    text = (await prometheus.diagnose(PromQL(numbers), API)).text
    assert text.count('{n="') == 20
    assert text.endswith("… and 5 more")


async def test_no_samples_are_evidence_without_a_number(prometheus):
    evidence = await prometheus.diagnose(PromQL("nothing_of_that_name"), API)
    assert evidence.text == "nothing_of_that_name\nno samples"
    assert evidence.numbers == {}


async def test_a_bad_query_is_permanent_and_quotes_prometheus(prometheus):
    with pytest.raises(PermanentError, match=r"Prometheus answered 400: .*parse error"):
        await prometheus.query("sum(")
    assert await probe(prometheus, "sum(") is Probe.UNKNOWN


@pytest.mark.parametrize("query", ["up[5m]", '"text"'])
async def test_a_range_or_a_string_cannot_hold_or_fail(prometheus, query):
    with pytest.raises(PermanentError, match="instant vector or a scalar"):
        await prometheus.query(query)


async def test_an_answer_without_its_remote_store_is_unknown_to_a_check(session):
    remote = f"remote_read: [{{url: 'http://127.0.0.1:{free_port()}/read', read_recent: true}}]\n"
    with prometheus_server(SCRAPE_NOTHING + remote) as url:
        reading = await PrometheusClient(session, url).check(PromQL("absent(up)"), API)
    assert reading.probe is Probe.UNKNOWN
    assert "warning: remote_read" in reading.seen


async def test_a_prometheus_that_is_gone_is_transient_and_unknown(session):
    gone = PrometheusClient(session, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TransientError):
        await gone.query("1")
    assert await probe(gone, "1") is Probe.UNKNOWN


@pytest.mark.parametrize(
    "body", ["<html>", "[]", "{}", '{"data": {"resultType": "vector", "result": [{}]}}', '{"data": {"resultType": "scalar"}}']
)
async def test_whatever_else_answers_at_its_address_is_not_believed(session, body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/api/v1/query", answer)
    async with TestServer(app) as other:
        client = PrometheusClient(session, str(other.make_url("")).rstrip("/"))
        with pytest.raises(PermanentError):
            await client.query("1")
        assert await probe(client, "1") is Probe.UNKNOWN


class TestCorroborate:
    @pytest.fixture(autouse=True)
    async def evaluated(self, prometheus) -> None:
        async def fires() -> bool:
            return await probe(prometheus, 'ALERTS{alertname="APIDown"}') is Probe.HOLDS

        await eventually(fires)

    @pytest.mark.parametrize(
        ("labels", "firing"),
        [
            ({"alertname": "APIDown", "service": "api", "severity": "critical"}, True),
            ({"alertname": "APIDown", "service": "api", "severity": "critical", "cluster": "eu"}, True),  # an external label
            ({"alertname": "APIDown", "service": "api"}, True),  # one that was dropped on the way
            ({"alertname": "APIDown", "service": "web", "severity": "critical"}, False),
            ({"alertname": "APIGone", "service": "api", "severity": "critical"}, False),
            ({"alertname": "APISlow", "service": "api"}, False),  # pending is not firing
            ({"alertname": 'Say "no"\\'}, True),
            ({"alertname": 'Say "no"'}, False),
            ({"service": "api"}, False),
        ],
    )
    async def test_an_alert_fires_if_a_series_of_its_name_disagrees_in_no_label_that_both_have(
        self, prometheus, labels, firing
    ):
        assert (await prometheus.corroborate(labels)).firing is firing

    async def test_a_prometheus_without_targets_has_none(self, prometheus):
        assert (await prometheus.corroborate({"alertname": "APIDown"})).targets == 0

    async def test_it_says_how_many_of_its_targets_answer(self, session):
        nobody = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        jobs = "scrape_configs: [{job_name: shop, static_configs: [{targets: %s}]}]\n"
        with prometheus_server(SCRAPE_NOTHING) as well:
            jobs %= [well.removeprefix("http://"), *nobody]
            with prometheus_server(SCRAPE_NOTHING + jobs) as url:
                client = PrometheusClient(session, url)

                async def all_are_scraped() -> bool:
                    return await probe(client, "count(up) == 4 and sum(up) == 1") is Probe.HOLDS

                await eventually(all_are_scraped)
                said = await client.corroborate({"alertname": "APIDown"})
                assert (said.firing, said.targets, said.up) == (False, 4, 1)

    async def test_what_may_be_incomplete_proves_nothing(self, session):
        remote = f"remote_read: [{{url: 'http://127.0.0.1:{free_port()}/read', read_recent: true}}]\n"
        with prometheus_server(SCRAPE_NOTHING + remote) as url, pytest.raises(TransientError, match="does not know everything"):
            await PrometheusClient(session, url).corroborate({"alertname": "APIDown"})


async def test_it_finds_nothing_and_takes_no_steps(prometheus, server):
    assert await prometheus.find(Selection({"service": "api"})) == ()
    assert prometheus.describe(PromQL("up == 1"), API) == f"promtool query instant {server} 'up == 1'"
    assert (await prometheus.check(RedisPing(), API)).probe is Probe.UNKNOWN
    for ask in (prometheus.mark(Restart(), API), prometheus.observe(Restart(), API, {})):
        with pytest.raises(PermanentError):
            await ask
