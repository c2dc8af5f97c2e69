"""What can be looked at in a Kafka cluster, and checked. Kinds of steps, as `step.py` has them; none changes anything."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from remediator.core.step_parts import Risk, name_field

CLUSTER = "The configured service; empty: the target's."


def _named(doc: str) -> Any:
    return field(metadata={"labels": "name", "doc": doc})


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """Brokers, controller and topics of a Kafka cluster, and partitions that have no leader or lack replicas."""

    name: ClassVar[str] = "kafka.cluster"
    service: ClassVar[str] = "kafka"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = (
        "kafka.cluster.brokers",
        "kafka.cluster.controller",
        "kafka.cluster.offline_partitions",
        "kafka.cluster.topics",
        "kafka.cluster.under_replicated_partitions",
        "kafka.cluster.up",
    )
    cluster: str = name_field(CLUSTER)


@dataclass(frozen=True, slots=True)
class KafkaGroup:
    """How far a consumer group has read a topic of Kafka, by partition."""

    name: ClassVar[str] = "kafka.group"
    service: ClassVar[str] = "kafka"
    risk: ClassVar[Risk] = Risk.READ
    facts: ClassVar[tuple[str, ...]] = ("kafka.group.lag",)
    group: str = _named("The consumer group.")
    topic: str = _named("The topic.")
    cluster: str = name_field(CLUSTER)


@dataclass(frozen=True, slots=True)
class KafkaPing:
    """A broker of Kafka answers, and the cluster has a controller."""

    name: ClassVar[str] = "kafka.ping"
    service: ClassVar[str] = "kafka"
    risk: ClassVar[Risk] = Risk.READ
    cluster: str = name_field(CLUSTER)


@dataclass(frozen=True, slots=True)
class KafkaConsuming:
    """The offsets of a consumer group in a topic of Kafka move, or it has read everything."""

    name: ClassVar[str] = "kafka.consuming"
    service: ClassVar[str] = "kafka"
    risk: ClassVar[Risk] = Risk.READ
    group: str = _named("The consumer group.")
    topic: str = _named("The topic.")
    watch: timedelta = field(
        default=timedelta(seconds=5), metadata={"doc": "Between the two looks.", "at_most": timedelta(seconds=10)}
    )
    cluster: str = name_field(CLUSTER)


KafkaDiagnosis = KafkaCluster | KafkaGroup
KafkaCheck = KafkaPing | KafkaConsuming
