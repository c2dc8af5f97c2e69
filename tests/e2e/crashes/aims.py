"""When to strike: at a random moment, or when a replica, or the engine, is seen to be in a window that matters."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from functools import partial

from tests.e2e.engine_events import EngineEvents, Event
from tests.e2e.remediator_process import RemediatorProcess

AIM_SECONDS_MAX = 10.0


class Aim(StrEnum):
    AT_RANDOM = "at random"
    POSTING = "while alerts are posted"
    DECIDED = "after the decision"
    GOING = "at the go"
    RESTARTING = "at the engine's restart"
    RECOVERING = "during the recovery"


WITHIN_SECONDS = {Aim.AT_RANDOM: 1.2, Aim.RECOVERING: 1.2, Aim.POSTING: 0.02, Aim.DECIDED: 0.05}
"""How long after it was seen to strike, at most; a random part of it."""
LOG_EVENTS = {"decision.taken": Aim.DECIDED, "step.go": Aim.GOING}


class Sight:
    """What is aimed at, and the replica that it was seen at, once it was."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._met = threading.Event()
        self._went: RemediatorProcess | None = None
        self.seen_at: RemediatorProcess | None = None
        if aim in (Aim.AT_RANDOM, Aim.POSTING):
            self._met.set()

    def wait(self) -> None:
        """Until it was seen, or for so long that it will hardly come any more."""
        self._met.wait(AIM_SECONDS_MAX)

    def on_log(self, replica: RemediatorProcess, line: str) -> None:
        """A decision or a go is durable, and told, before its consequences are under way."""
        if not any(f'"{event}"' in line for event in LOG_EVENTS):
            return
        aim = LOG_EVENTS.get(json.loads(line)["event"])
        if aim is Aim.GOING:
            self._went = replica
        self._meet(aim, replica)

    def on_engine(self, event: Event) -> None:
        """`kill` is the first that a restart does."""
        if event.action == "kill":
            self._meet(Aim.RESTARTING, self._went)

    def _meet(self, aim: Aim | None, replica: RemediatorProcess | None) -> None:
        if aim is self._aim and not self._met.is_set():
            self.seen_at = replica
            self._met.set()


@contextmanager
def sighted(aim: Aim, replicas: Sequence[RemediatorProcess], events: EngineEvents) -> Iterator[Sight]:
    sight = Sight(aim)
    with ExitStack() as stack:
        for replica in replicas:
            stack.enter_context(replica.listening(partial(sight.on_log, replica)))
        events.listeners.append(sight.on_engine)
        stack.callback(events.listeners.remove, sight.on_engine)
        yield sight
