"""An event loop whose time is a number: when nothing is left to do now, it jumps to the next timer.

It never sleeps and never asks the operating system for anything: sockets, subprocesses and threads are not implemented
and say so. What runs on it depends on nothing but its arguments, and so runs the same way every time.
"""

import asyncio
from asyncio import events
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Pick = Callable[[int], int]
"""Which of so many ready callbacks runs next, counted from 0 in the order in which they became ready."""


class NothingLeft(Exception):
    """What is waited for can never come: nothing is ready, and no timer is set."""


class BrokenCallback(Exception):
    """A callback or a task failed and nobody was there to hear of it."""


def first_come(ready: int) -> int:
    """asyncio's own order."""
    return 0


@dataclass(frozen=True, slots=True)
class Callback:
    """What is to be called. `handle` is what the caller may cancel it with."""

    handle: asyncio.Handle
    call: Callable[..., object]
    arguments: tuple[Any, ...]
    context: Context


class VirtualLoop(asyncio.AbstractEventLoop):
    """Time begins at 0.0 seconds and passes only between callbacks, never during one."""

    def __init__(self, pick: Pick = first_come) -> None:
        self._pick = pick
        self._now = 0.0
        self._ready: list[Callback] = []
        self._timers: list[tuple[float, int, Callback]] = []
        self._numbers = count()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._problems: list[dict[str, Any]] = []
        self._closed = False
        self.callbacks = 0
        """How many were run."""

    # --- running ------------------------------------------------------------------------------------------------------

    def run_until_complete(self, future: Coroutine[Any, Any, T]) -> T:  # type: ignore[override]
        """Run until it is done. Raises NothingLeft if it never will be, BrokenCallback for what failed unheard."""
        main = self.create_task(future)
        self.run_until(main.done)
        return main.result()

    def run_until(self, satisfied: Callable[[], bool]) -> None:
        """Run callbacks until `satisfied`, which is asked after each."""
        before = events._get_running_loop()  # noqa: SLF001 - these two are asyncio's interface for loops
        events._set_running_loop(self)  # noqa: SLF001
        try:
            while not satisfied():
                self.run_next()
        finally:
            events._set_running_loop(before)  # noqa: SLF001

    def run_next(self) -> None:
        """Run one callback; if none is ready, jump to the next timer first."""
        while not self._ready:
            self._jump()
        callback = self._ready.pop(self._pick(len(self._ready)))
        if not callback.handle.cancelled():
            self.run_callback(callback)
        if self._problems:
            problem = self._problems.pop(0)
            raise BrokenCallback(problem.get("message", "")) from problem.get("exception")

    def run_callback(self, callback: Callback) -> None:
        """Run it, in its context. A simulation may let something else happen instead."""
        self.callbacks += 1
        try:
            callback.context.run(callback.call, *callback.arguments)
        except Exception as error:  # noqa: BLE001 - as every event loop does
            self.call_exception_handler({"message": f"{callback.call!r} failed", "exception": error})

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].handle.cancelled():
            heappop(self._timers)
        if not self._timers:
            raise NothingLeft(f"at {self._now:.6f} s nothing is ready and no timer is set")
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self.make_ready(heappop(self._timers)[2])

    def make_ready(self, callback: Callback) -> None:
        """It may run from now on. A simulation of processes holds back here what belongs to one that stands still."""
        self._ready.append(callback)

    def close(self) -> None:
        """Let go of every task that is left, its clean-up included: nothing of it can reach the loop any more."""
        self._closed = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001 - it is meant to be pending
            coroutine = task.get_coro()
            with suppress(Exception):
                coroutine.close()
        self._tasks.clear()

    # --- what asyncio asks of a loop ----------------------------------------------------------------------------------

    def time(self) -> float:
        """Seconds since the loop began."""
        return self._now

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> asyncio.Handle:
        where = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, where)
        if not self._closed:
            self.make_ready(Callback(handle, callback, args, where))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        where = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, where)
        if not self._closed:
            heappush(self._timers, (when, next(self._numbers), Callback(handle, callback, args, where)))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """asyncio tells its loop; here a cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._done, context=Context())
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self._problems.append(context)


class VirtualClock:
    """Implements `ports.Clock` on a loop's time; `shift` is how far this clock is off the true time."""

    def __init__(self, loop: VirtualLoop, epoch: datetime, shift: timedelta = timedelta()) -> None:
        self._loop = loop
        self._epoch = epoch
        self.shift = shift

    def now(self) -> datetime:
        return self._epoch + timedelta(seconds=self._loop.time()) + self.shift

    def elapsed(self) -> float:
        return self._loop.time()
