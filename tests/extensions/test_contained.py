"""A bug of an extension stays with it, under its name; and what is not configured, or may not act, is not even opened."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from remediator.core.step import Healthy, Logs, Restart
from remediator.core.target import Selection
from remediator.extensions import Extension
from remediator.extensions import contained as containing
from remediator.extensions.connect import BadExtension, connected
from remediator.extensions.contained import ContainedActuator, ContainedPlatform
from remediator.extensions.installed import Added, Installed
from remediator.ports import OutcomeUnknown, PermanentError, Probe, TransientError
from tests.builders import workload
from tests.fakes import FakePlatform

SELECTION = Selection({"service": "shop-api"})
NAMED = r"extension gate \(a-gate 1\.0\) broke down: ZeroDivisionError: division by zero"


class Buggy:
    name = "gate"

    def __getattr__(self, name):
        return lambda *arguments: 1 / 0


def added(**changes) -> Added:
    return Added(replace(Extension("gate", reading=opening(FakePlatform("gate"))), **changes), "a-gate 1.0")


def opening(side, opened=None):
    @asynccontextmanager
    async def open_side(options):
        if opened is not None:
            opened.append(dict(options))
        yield side

    return open_side


@pytest.mark.parametrize("ask", ["find", "diagnose", "mark", "observe", "describe"])
async def test_a_bug_on_the_reading_side_is_an_error_that_names_the_package(ask):
    platform, target = ContainedPlatform(added(), Buggy()), workload()
    asked = {
        "find": lambda: platform.find(SELECTION),
        "diagnose": lambda: platform.diagnose(Logs(), target),
        "mark": lambda: platform.mark(Restart(), target),
        "observe": lambda: platform.observe(Restart(), target, {}),
    }
    with pytest.raises(PermanentError, match=NAMED):
        platform.describe(Restart(), target) if ask == "describe" else await asked[ask]()


async def test_a_bug_in_a_check_says_nothing_about_the_target():
    reading = await ContainedPlatform(added(), Buggy()).check(Healthy(), workload())
    assert reading.probe is Probe.UNKNOWN
    assert "a-gate 1.0" in reading.seen


async def test_a_bug_in_a_step_may_have_come_after_it_was_done():
    with pytest.raises(OutcomeUnknown, match=NAMED):
        await ContainedActuator(added(), Buggy(), lambda: True).perform(Restart(), workload(), {})


async def test_what_it_says_itself_is_passed_on_as_it_is():
    platform = FakePlatform("gate", fail_with=lambda: TransientError("not now"), unreachable=True)
    with pytest.raises(TransientError, match="cannot be reached"):
        await ContainedPlatform(added(), platform).find(SELECTION)
    with pytest.raises(TransientError, match="not now"):
        await ContainedActuator(added(), platform, lambda: True).perform(Restart(), workload(), {})


async def test_it_finds_its_own_workloads_only():
    assert await ContainedPlatform(added(), FakePlatform("gate")).find(SELECTION)
    with pytest.raises(PermanentError, match="it found docker:container/shop-api-1, which is not its own"):
        await ContainedPlatform(added(), FakePlatform("docker")).find(SELECTION)


async def test_one_that_does_not_answer_is_named(monkeypatch):
    class Slow(FakePlatform):
        async def find(self, selection):
            await asyncio.sleep(60)

    monkeypatch.setattr(containing, "FIND_SECONDS", 0.01)
    with pytest.raises(TransientError, match=r"extension gate \(a-gate 1\.0\) did not answer"):
        await ContainedPlatform(added(), Slow("gate")).find(SELECTION)


async def test_nothing_is_handed_over_once_the_lease_is_gone():
    platform = FakePlatform("gate")
    with pytest.raises(TransientError, match="lease"):
        await ContainedActuator(added(), platform, lambda: False).perform(Restart(), workload(), {})
    assert platform.performed == []


async def test_the_writing_side_is_not_opened_where_nothing_may_act():
    opened: list = []
    installed = Installed([added(writing=opening(FakePlatform("gate"), opened))], ())
    async with connected({"gate": {"width": 3}}, installed, None) as sides:
        assert (list(sides.platforms), list(sides.actuators), opened) == (["gate"], [], [])
    async with connected({"gate": {"width": 3}}, installed, lambda: True) as sides:
        assert (list(sides.platforms), list(sides.actuators), opened) == (["gate"], ["gate"], [{"width": 3}])


async def test_what_is_not_configured_is_not_opened():
    opened: list = []
    async with connected({}, Installed([added(reading=opening(None, opened))], ()), lambda: True) as sides:
        assert (sides.platforms, opened) == ({}, [])


async def test_what_is_configured_and_not_installed_is_an_error():
    with pytest.raises(BadExtension, match=r"extensions\.gaet: no such extension is installed: did you mean 'gate'\?"):
        await connected({"gaet": {}}, Installed([added()], ()), None).__aenter__()


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("write {file: PATH}"), "write {file: PATH}"), (KeyError("file"), "it broke down: KeyError: 'file'")],
)
async def test_what_cannot_be_opened_says_which_package_and_why(error, told):
    @asynccontextmanager
    async def refusing(options):
        raise error
        yield

    with pytest.raises(BadExtension) as raised:
        await connected({"gate": {}}, Installed([added(reading=refusing)], ()), None).__aenter__()
    assert str(raised.value) == f"extensions.gate in the configuration file (a-gate 1.0): {told}"
