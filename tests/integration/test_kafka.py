"""Kafka as a data service, against the cluster that librdkafka has for the tests of Kafka's clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from remediator.core.kafka_step import KafkaCluster, KafkaConsuming, KafkaGroup, KafkaPing
from remediator.core.redis_step import RedisInfo, RedisPing
from remediator.core.step import Restart
from remediator.core.target import Selection, Workload
from remediator.platforms.services.kafka import KafkaClusters
from remediator.ports import PermanentError, Probe
from remediator.settings import ServiceEndpoints
from tests.kafka_fake import kafka_cluster
from tests.servers import free_port

SHOP = Workload("docker", "container", "kafka", service="shop")
BILLING = KafkaGroup(group="billing", topic="orders")
CONSUMING = KafkaConsuming(group="billing", topic="orders", watch=timedelta(milliseconds=300))
ORDERS = 10


def configured(servers: str) -> KafkaClusters:
    return KafkaClusters({"shop": ServiceEndpoints(kafka=servers)})


@pytest.fixture
def cluster() -> Iterator[tuple[str, Producer]]:
    """Two brokers with ten orders in one partition."""
    with kafka_cluster(brokers=2) as (servers, producer):
        for _ in range(ORDERS):
            producer.produce("orders", b"an order", partition=0)
        assert producer.flush(20) == 0
        yield servers, producer


@pytest.fixture
def servers(cluster) -> str:
    return cluster[0]


@pytest.fixture
def clusters(servers) -> KafkaClusters:
    return configured(servers)


def commit(servers: str, offset: int) -> None:
    """The group says that it has read so far."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "billing", "log_level": 0})
    consumer.commit(offsets=[TopicPartition("orders", 0, offset)], asynchronous=False)
    consumer.close()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """It takes whatever it is told, and answers nothing."""

    writers: list[asyncio.StreamWriter] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for writer in writers:
            writer.close()
            await writer.wait_closed()


async def test_the_evidence_counts_brokers_topics_and_what_is_wrong_with_them(clusters, servers):
    evidence = await clusters.diagnose(KafkaCluster(), SHOP)
    assert all(f"at {server}" in evidence.text for server in servers.split(","))
    assert "1 topics, 4 partitions, 0 offline, 0 under-replicated" in evidence.text
    assert evidence.numbers == {
        "kafka.cluster.up": 1,
        "kafka.cluster.brokers": 2,
        "kafka.cluster.controller": 1,
        "kafka.cluster.topics": 1,
        "kafka.cluster.offline_partitions": 0,
        "kafka.cluster.under_replicated_partitions": 0,
    }


async def test_ping_holds_while_a_broker_answers_for_a_controller(clusters):
    reading = await clusters.check(KafkaPing(), SHOP)
    assert (reading.probe, reading.seen) == (Probe.HOLDS, "2 brokers answer, and there is a controller")


async def test_one_broker_of_the_configured_ones_is_enough(servers):
    beside_a_dead_one = configured(f"127.0.0.1:{free_port()},{servers}")
    assert (await beside_a_dead_one.check(KafkaPing(), SHOP)).probe is Probe.HOLDS


async def test_a_group_lags_by_what_it_has_not_committed(clusters, servers):
    await asyncio.to_thread(commit, servers, 4)
    evidence = await clusters.diagnose(BILLING, SHOP)
    assert evidence.text.startswith("group billing lags by 6 in orders\npartition 0: 4 of 10\n")
    assert evidence.numbers == {"kafka.group.lag": 6}


async def test_a_group_that_has_committed_nothing_lags_by_everything(clusters):
    assert (await clusters.diagnose(BILLING, SHOP)).numbers == {"kafka.group.lag": ORDERS}


async def test_a_group_that_has_read_everything_gets_on(clusters, servers):
    await asyncio.to_thread(commit, servers, ORDERS)
    reading = await clusters.check(CONSUMING, SHOP)
    assert (reading.probe, reading.seen) == (Probe.HOLDS, "group billing has read all of orders")


async def test_a_group_that_lags_and_stands_still_does_not(clusters, servers):
    await asyncio.to_thread(commit, servers, 4)
    reading = await clusters.check(CONSUMING, SHOP)
    assert (reading.probe, reading.seen) == (Probe.FAILS, "group billing has read 0 further in orders, and lags by 6")


async def test_a_group_that_lags_and_moves_gets_on(servers):
    await asyncio.to_thread(commit, servers, 4)

    async def meanwhile(_: float) -> None:
        await asyncio.to_thread(commit, servers, 7)

    clusters = KafkaClusters({"shop": ServiceEndpoints(kafka=servers)}, pause=meanwhile)
    reading = await clusters.check(CONSUMING, SHOP)
    assert (reading.probe, reading.seen) == (Probe.HOLDS, "group billing has read 3 further in orders, and lags by 3")


async def test_a_cluster_that_refuses_connections_is_evidence_and_fails_its_ping():
    gone = configured(f"127.0.0.1:{free_port()}")
    evidence = await gone.diagnose(KafkaCluster(), SHOP)
    assert "Kafka 'shop' does not answer" in evidence.text
    assert evidence.numbers == {"kafka.cluster.up": 0}
    assert (await gone.check(KafkaPing(), SHOP)).probe is Probe.FAILS
    assert (await gone.check(CONSUMING, SHOP)).probe is Probe.UNKNOWN
    assert (await gone.diagnose(BILLING, SHOP)).numbers == {}


async def test_a_broker_that_answers_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr("remediator.platforms.services.kafka.TIMEOUT_S", 0.5)
    async with silent_server() as address, asyncio.timeout(5):
        reading = await configured(address).check(KafkaPing(), SHOP)
    assert (reading.probe, reading.seen) == (Probe.FAILS, "Kafka 'shop' does not answer: not within 0.5s")


async def test_what_is_not_configured_says_what_to_add(clusters):
    unknown = Workload("docker", "container", "api", service="api")
    words = "no kafka address is configured for service 'api'; add services.api.kafka"
    assert (await clusters.diagnose(KafkaCluster(), unknown)).text == words
    assert (await clusters.check(KafkaPing(), unknown)).seen == words
    assert (await clusters.check(KafkaPing(cluster="shop"), unknown)).probe is Probe.HOLDS
    assert clusters.describe(KafkaCluster(), unknown) == f"# {words}"


async def test_an_address_that_is_none_says_what_to_write():
    broken = configured("shop-kafka:none")
    assert "write host:9092,other-host:9092" in (await broken.check(KafkaPing(), SHOP)).seen


async def test_looks_are_described_as_commands_of_kafka(clusters, servers):
    assert clusters.describe(KafkaCluster(), SHOP) == f"kafka-topics.sh --bootstrap-server {servers} --describe"
    assert clusters.describe(BILLING, SHOP) == (
        f"kafka-consumer-groups.sh --bootstrap-server {servers} --describe --group billing"
    )


async def test_it_finds_no_targets_and_takes_no_steps(clusters):
    assert await clusters.find(Selection({"service": "shop"})) == ()
    with pytest.raises(PermanentError, match="kafka is only read"):
        await clusters.mark(Restart(), SHOP)
    with pytest.raises(PermanentError, match=r"kafka has no diagnosis redis\.info"):
        await clusters.diagnose(RedisInfo(), SHOP)
    assert (await clusters.check(RedisPing(), SHOP)).probe is Probe.UNKNOWN
