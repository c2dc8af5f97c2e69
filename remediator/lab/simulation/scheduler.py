"""Processes on one loop: which callback belongs to which, and what it means that one is killed or stands still.

The context of a callback says whose it is; tasks inherit it. A killed process's callbacks are dropped, not cancelled: no
`except`, no `finally` and no `async with` of it runs any more, as after `kill -9`. A stopped one's are held (SIGSTOP).
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from remediator.clock import Random
from remediator.lab.virtual_time import Callback, VirtualLoop

T = TypeVar("T")


class Life(Enum):
    RUNNING = "running"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(eq=False, slots=True)
class Process:
    """One life of a replica: a restart is another process."""

    name: str
    life: Life = Life.RUNNING
    held: list[Callback] = field(default_factory=list)


OWNER: ContextVar[Process | None] = ContextVar("owner", default=None)
"""None: the world outside, which never dies."""

Disturb = Callable[[Process], None]
Work = asyncio.Task[Any]


class Scheduler(VirtualLoop):
    """Picks the next ready callback at random. `disturb` is asked before each callback of a process runs."""

    def __init__(self, random: Random) -> None:
        super().__init__(pick=lambda ready: int(random.random() * ready) if ready > 1 else 0)
        self.disturb: Disturb | None = None
        self._makers: WeakKeyDictionary[Work, Work | None] = WeakKeyDictionary()

    def spawn(self, process: Process | None, work: Coroutine[Any, Any, T], name: str) -> None:
        """Run `work` as a task of `process`, or of the world outside."""
        self.create_task(work, name=name, context=context_of(process))

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """A task without a name of its own has its maker's: whoever is asked something knows for which run."""
        maker = asyncio.current_task(self)
        task = super().create_task(coro, name=name or (maker.get_name() if maker else None), context=context)
        self._makers[task] = maker
        return task

    def work(self) -> Work:
        """The task with a name of its own for which the current one works: of a run that was taken up anew there may be two."""
        task = asyncio.current_task(self)
        assert task is not None, "nothing is at work"
        while (maker := self._makers[task]) is not None and maker.get_name() == task.get_name():
            task = maker
        return task

    def kill(self, process: Process) -> None:
        """From now on nothing of it runs. The callback that is running now ends at its next `await`."""
        process.life = Life.DEAD
        process.held.clear()
        self._ready = [callback for callback in self._ready if callback.context.get(OWNER) is not process]

    def halt(self, process: Process) -> None:
        process.life = Life.STOPPED
        process.held = [callback for callback in self._ready if callback.context.get(OWNER) is process]
        self._ready = [callback for callback in self._ready if callback.context.get(OWNER) is not process]

    def go_on(self, process: Process) -> None:
        """After a halt. Whatever became due in the meantime is due now."""
        process.life = Life.RUNNING
        held, process.held = process.held, []
        for callback in held:
            self.make_ready(callback)

    def make_ready(self, callback: Callback) -> None:
        process = callback.context.get(OWNER)
        if process is None or process.life is Life.RUNNING:
            self._ready.append(callback)
        elif process.life is Life.STOPPED:
            process.held.append(callback)

    def run_callback(self, callback: Callback) -> None:
        process = callback.context.get(OWNER)
        if process is not None and self.disturb is not None:
            self.disturb(process)
            if process.life is not Life.RUNNING:
                self.make_ready(callback)
                return
        super().run_callback(callback)


def context_of(process: Process | None) -> Context:
    """A context whose callbacks belong to `process`."""
    context = Context()
    context.run(OWNER.set, process)
    return context
