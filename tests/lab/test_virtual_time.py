"""The loop without a clock of its own: asyncio works on it, no time passes, and what cannot end says so."""

import asyncio
import time
from datetime import timedelta

import pytest

from remediator.lab.virtual_time import BrokenCallback, NothingLeft, VirtualClock, VirtualLoop
from tests.builders import NOW


@pytest.fixture
def loop():
    made = VirtualLoop()
    yield made
    made.close()


def test_a_day_passes_in_no_time(loop):
    began_at = time.monotonic()
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() == 86_400
    assert time.monotonic() - began_at < 5


def test_sleepers_wake_in_the_order_of_their_times(loop):
    woken = []

    async def sleep(seconds):
        await asyncio.sleep(seconds)
        woken.append((seconds, loop.time()))

    async def all_of_them():
        await asyncio.gather(sleep(3), sleep(1), sleep(2))

    loop.run_until_complete(all_of_them())
    assert woken == [(1, 1), (2, 2), (3, 3)]


def test_a_timeout_ends_what_takes_longer(loop):
    async def hang():
        async with asyncio.timeout(5):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(hang())
    assert loop.time() == 5


def test_a_timer_that_was_cancelled_does_not_move_the_time(loop):
    async def in_time():
        async with asyncio.timeout(60):
            await asyncio.sleep(1)
        await asyncio.sleep(1)

    loop.run_until_complete(in_time())
    assert loop.time() == 2


def test_task_groups_shields_and_events_work(loop):
    async def work():
        done = asyncio.Event()

        async def finish():
            await asyncio.shield(asyncio.sleep(1))
            done.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(finish())
            await done.wait()
        return "finished"

    assert loop.run_until_complete(work()) == "finished"


def test_what_can_never_come_is_not_waited_for(loop):
    with pytest.raises(NothingLeft):
        loop.run_until_complete(asyncio.Event().wait())


def test_a_callback_that_fails_is_not_passed_over(loop):
    async def work():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(BrokenCallback) as caught:
        loop.run_until_complete(work())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_picker_says_what_runs_next():
    loop = VirtualLoop(pick=lambda ready: ready - 1)
    order = []
    for number in range(3):
        loop.call_soon(order.append, number)
    loop.run_until(lambda: len(order) == 3)
    loop.close()
    assert order == [2, 1, 0]


def test_what_is_left_is_let_go_without_running(loop):
    reached = []

    async def wait_for_ever():
        await asyncio.Event().wait()
        reached.append("never")

    async def begin():
        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        assert not task.done()

    loop.run_until_complete(begin())
    loop.close()
    assert reached == []


def test_clocks_read_the_loop_and_can_be_off(loop):
    true, fast = VirtualClock(loop, NOW), VirtualClock(loop, NOW, timedelta(minutes=1))
    loop.run_until_complete(asyncio.sleep(1.5))
    assert true.now() == NOW + timedelta(seconds=1.5)
    assert fast.now() - true.now() == timedelta(minutes=1)
