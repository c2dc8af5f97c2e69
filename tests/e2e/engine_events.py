"""What the Docker engine itself says was done to the containers of a test: recorded live, as it remembers only 256 events."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import docker
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from tests.images import Containers, engine_url, eventually


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    """The container's name at that time."""
    action: str


class EngineEvents:
    """The events of the containers with one label, in order, since the block began."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._events: list[Event] = []
        self._fences = 0
        self.listeners: list[Callable[[Event], None]] = []

    def actions(self, container: str) -> Sequence[str]:
        """What happened to the container with this name up to now, such as `kill`, `die`, `start`, `restart`.

        Events come in order: once that of a container created just now is here, every earlier one is.
        """
        self._fences += 1
        fence = f"fence-{self._fences}"
        self._containers.run(fence, start=False)
        known = Event(self._containers.name(fence), "create")
        eventually(lambda: known in self._events, "the engine tells of a container created just now")
        return [event.action for event in self._events if event.name == container]

    def take(self, told: dict[str, Any]) -> None:
        event = Event(told["Actor"]["Attributes"]["name"], told["Action"])
        self._events.append(event)
        for listener in tuple(self.listeners):
            listener(event)


@contextmanager
def engine_events(containers: Containers) -> Iterator[EngineEvents]:
    """Record from now on."""
    events = EngineEvents(containers)
    client = docker.APIClient(base_url=engine_url(), version="auto", timeout=30)
    stream = client.events(decode=True, filters={"type": "container", "label": containers.label})

    def record() -> None:
        with suppress(RequestException, HTTPError, OSError, ValueError, AttributeError):  # what closing it under way raises
            for told in stream:
                events.take(told)

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    try:
        yield events
    finally:
        stream.close()
        thread.join(10)
        client.close()
