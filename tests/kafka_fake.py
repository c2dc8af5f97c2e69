"""A Kafka cluster as librdkafka mocks it for the tests of its clients: no broker, but its protocol, on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Producer


@contextmanager
def kafka_cluster(brokers: int = 1) -> Iterator[tuple[str, Producer]]:
    """Yields the addresses of the brokers, and a producer, with which they end."""
    producer = Producer({"test.mock.num.brokers": brokers, "log_level": 0})
    told = producer.list_topics(timeout=30)
    yield ",".join(f"{broker.host}:{broker.port}" for broker in told.brokers.values()), producer
