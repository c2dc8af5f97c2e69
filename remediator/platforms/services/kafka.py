"""Kafka: whether brokers and a controller answer, the state of topics, and whether a consumer group gets on. Reads only.

The addresses are those of some brokers, `host:port`, separated by commas; without TLS and passwords. The only module that
knows aiokafka.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, assert_never

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from remediator.core.kafka_step import KafkaCheck, KafkaCluster, KafkaConsuming, KafkaDiagnosis, KafkaGroup, KafkaPing
from remediator.core.step import Check, Diagnosis, Step
from remediator.core.target import Selection, Workload
from remediator.platforms.services.addresses import NotConfigured, Services, address_of
from remediator.ports import (
    Evidence,
    Facts,
    Observation,
    PermanentError,
    PortError,
    Probe,
    Reading,
    TransientError,
)

TIMEOUT_S = 4.0
"""For one look, from connecting to the last answer."""
TOPICS_SHOWN = 20

Offsets = Mapping[int, tuple[int, int]]
"""By partition: how far the group has committed, and where the partition ends."""


class KafkaClusters:
    """`services.NAME.kafka` for each cluster. What restarts a broker is the platform that it runs on."""

    name = "kafka"

    def __init__(self, services: Services, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._services = services
        self._pause = pause

    async def find(self, selection: Selection) -> Sequence[Workload]:
        return ()

    async def diagnose(self, diagnosis: Diagnosis, workload: Workload) -> Evidence:
        """A silent cluster is `kafka.cluster.up` 0. Raises PermanentError for a diagnosis that is not Kafka's."""
        if not isinstance(diagnosis, KafkaDiagnosis):
            raise PermanentError(f"kafka has no diagnosis {diagnosis.name}")
        name = diagnosis.cluster or workload.service
        try:
            match diagnosis:
                case KafkaCluster():
                    return await self._cluster(name)
                case KafkaGroup(group=group, topic=topic):
                    return _group(diagnosis, await self._offsets(name, group, topic))
                case _:
                    assert_never(diagnosis)
        except TransientError as error:
            down = {"kafka.cluster.up": 0.0} if isinstance(diagnosis, KafkaCluster) else {}
            return Evidence(diagnosis.name, str(error), down)
        except PermanentError as error:
            return Evidence(diagnosis.name, str(error))

    async def check(self, check: Check, workload: Workload) -> Reading:
        if not isinstance(check, KafkaCheck):
            return Reading(Probe.UNKNOWN, f"kafka has no check {check.name}")
        name = check.cluster or workload.service
        try:
            match check:
                case KafkaPing():
                    return await self._ping(name)
                case KafkaConsuming():
                    return await self._consuming(check, name)
                case _:
                    assert_never(check)
        except PortError as error:
            return Reading(Probe.UNKNOWN, str(error))

    def describe(self, step: Step | Diagnosis, workload: Workload) -> str:
        """The command lines of Kafka's own tools."""
        if not isinstance(step, KafkaDiagnosis):
            return f"# kafka has no step {step.name}"
        try:
            servers = ["--bootstrap-server", address_of(self._services, "kafka", step.cluster or workload.service)]
        except NotConfigured as error:
            return f"# {error}"
        match step:
            case KafkaCluster():
                return shlex.join(["kafka-topics.sh", *servers, "--describe"])
            case KafkaGroup(group=group):
                return shlex.join(["kafka-consumer-groups.sh", *servers, "--describe", "--group", group])
            case _:
                assert_never(step)

    async def mark(self, step: Step, workload: Workload) -> Facts:
        raise PermanentError(f"kafka is only read: there is no step {step.name}")

    async def observe(self, step: Step, workload: Workload, mark: Facts) -> Observation:
        raise PermanentError(f"kafka is only read: there is no step {step.name}")

    async def _cluster(self, name: str) -> Evidence:
        async with _connected(self._services, name) as admin:
            return _state(await admin.describe_cluster(), await admin.describe_topics())

    async def _ping(self, name: str) -> Reading:
        try:
            async with _connected(self._services, name) as admin:
                cluster = await admin.describe_cluster()
        except TransientError as error:
            return Reading(Probe.FAILS, str(error))
        has_controller = cluster["controller_id"] >= 0
        seen = f"{len(cluster['brokers'])} brokers answer, and there is {'a' if has_controller else 'no'} controller"
        return Reading(Probe.HOLDS if has_controller else Probe.FAILS, seen)

    async def _consuming(self, check: KafkaConsuming, name: str) -> Reading:
        """A group that lags and stands still between two looks is stuck, or slower than `watch` can see."""
        before = await self._offsets(name, check.group, check.topic)
        if not _lag(before):
            return Reading(Probe.HOLDS, f"group {check.group} has read all of {check.topic}")
        await self._pause(check.watch.total_seconds())
        after = await self._offsets(name, check.group, check.topic)
        moved = sum(after[one][0] - before[one][0] for one in before.keys() & after.keys())
        seen = f"group {check.group} has read {moved} further in {check.topic}, and lags by {_lag(after)}"
        return Reading(Probe.HOLDS if moved > 0 or not _lag(after) else Probe.FAILS, seen)

    async def _offsets(self, name: str, group: str, topic: str) -> Offsets:
        """Asked without joining the group. Raises TransientError or PermanentError."""
        async with _connected(self._services, name) as admin:
            (told,) = await admin.describe_topics([topic])
            partitions = [TopicPartition(topic, one["partition"]) for one in told["partitions"]]
            if told["error_code"] or not partitions:
                raise PermanentError(f"Kafka {name!r} has no topic {topic!r}")
            # -1 where the group has committed nothing (https://kafka.apache.org/protocol#The_Messages_OffsetFetch).
            committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
            async with _reader(address_of(self._services, "kafka", name)) as reader:
                ends = await reader.end_offsets(partitions)
        return {one.partition: (max(0, committed[one].offset), ends[one]) for one in partitions}


@asynccontextmanager
async def _connected(services: Services, name: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that asks, within the time of one look. Raises TransientError or NotConfigured."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address_of(services, "kafka", name), client_id="remediator")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await _start(admin, name)
            yield admin
    except (KafkaError, OSError) as error:  # a timeout is an OSError
        raise TransientError(f"Kafka {name!r} does not answer: {str(error) or f'not within {TIMEOUT_S:g}s'}") from error
    finally:
        await admin.close()


async def _start(admin: AIOKafkaAdminClient, name: str) -> None:
    try:
        await admin.start()
    except ValueError as error:
        raise NotConfigured(f"services.{name}.kafka is not a list of addresses; write host:9092,other-host:9092") from error


@asynccontextmanager
async def _reader(servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group, which alone can ask where partitions end."""
    reader = AIOKafkaConsumer(bootstrap_servers=servers, client_id="remediator")
    try:
        await reader.start()
        yield reader
    finally:
        await reader.stop()


def _state(cluster: Mapping[str, Any], topics: Sequence[Mapping[str, Any]]) -> Evidence:
    partitions = [(topic["topic"], one) for topic in topics for one in topic["partitions"]]
    offline = [f"{topic}/{one['partition']} has no leader" for topic, one in partitions if one["leader"] < 0]
    lacking = [
        f"{topic}/{one['partition']} has {len(one['isr'])} of {len(one['replicas'])} replicas in sync"
        for topic, one in partitions
        if len(one["isr"]) < len(one["replicas"])
    ]
    controller = cluster["controller_id"]
    lines = [f"broker {one['node_id']} at {one['host']}:{one['port']}" for one in cluster["brokers"]]
    lines.append(f"controller: {controller if controller >= 0 else 'none'}")
    lines.append(f"{len(topics)} topics, {len(partitions)} partitions, {len(offline)} offline, {len(lacking)} under-replicated")
    numbers = {
        "up": 1.0,
        "brokers": float(len(cluster["brokers"])),
        "controller": float(controller >= 0),
        "topics": float(len(topics)),
        "offline_partitions": float(len(offline)),
        "under_replicated_partitions": float(len(lacking)),
    }
    text = "\n".join([*lines, *[*offline, *lacking][:TOPICS_SHOWN]])
    return Evidence(KafkaCluster.name, text, {f"{KafkaCluster.name}.{name}": value for name, value in numbers.items()})


def _group(diagnosis: KafkaGroup, offsets: Offsets) -> Evidence:
    lines = [f"group {diagnosis.group} lags by {_lag(offsets)} in {diagnosis.topic}"]
    furthest = sorted(offsets.items(), key=lambda one: one[1][0] - one[1][1])
    lines += [f"partition {number}: {read} of {end}" for number, (read, end) in furthest[:TOPICS_SHOWN]]
    return Evidence(diagnosis.name, "\n".join(lines), {"kafka.group.lag": float(_lag(offsets))})


def _lag(offsets: Offsets) -> int:
    return sum(max(0, end - read) for read, end in offsets.values())
