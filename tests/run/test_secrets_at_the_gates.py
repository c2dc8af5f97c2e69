"""Each gate by itself: what platforms say, what errors say, what is logged, what people are sent. All at once: e2e."""

import io
import logging
from datetime import timedelta

import pytest

from remediator.announcements import escalation
from remediator.core.redaction_rules import REDACTED
from remediator.core.run import Run, RunState
from remediator.core.step import Healthy, Logs, Restart
from remediator.core.target import Selection
from remediator.core.verdict import Reason
from remediator.logs import make_log, quiet_libraries
from remediator.platforms import LOOKED_AT_MAX, readable
from remediator.platforms.command import CommandPlatform
from remediator.ports import (
    Evidence,
    Happened,
    Observation,
    OutcomeUnknown,
    PermanentError,
    Probe,
    Reading,
    StoreUnavailable,
    TransientError,
)
from remediator.settings import CommandTarget
from remediator.world import EVIDENCE_CHARACTERS_MAX, World
from tests.builders import NOW, episode, playbook, workload
from tests.fakes import FakePlatform

LEAK = "dial redis://:tulip@cache:6379/0 with token=crocus"
SHOWN = "dial redis://:[redacted]@cache:6379/0 with token=[redacted]"


class Leaky(FakePlatform):
    """Says secrets whatever it is asked."""

    async def diagnose(self, diagnosis, workload):
        return Evidence(diagnosis.name, LEAK)

    async def check(self, check, workload):
        return Reading(Probe.FAILS, LEAK)

    def describe(self, step, workload):
        return LEAK

    async def observe(self, step, workload, mark):
        return Observation(Happened.YES, LEAK)

    async def perform(self, step, workload, mark):
        return LEAK


def leaky_world() -> World:
    platform = Leaky()
    return World({"docker": platform}, {"docker": platform})


async def test_nothing_that_a_platform_says_comes_through_with_its_secrets():
    world, target = leaky_world(), workload()
    assert (await world.diagnose(Logs(), target, acting=False)).text == SHOWN
    assert (await world.check(Healthy(), target, episode())).seen == SHOWN
    assert (await world.observe(Restart(), target, {})).seen == SHOWN
    assert await world.perform(Restart(), target, {}) == SHOWN
    assert world.describe(Restart(), target) == SHOWN


async def test_evidence_is_bounded_after_its_secrets_are_gone():
    class Long(FakePlatform):
        async def diagnose(self, diagnosis, workload):
            return Evidence(diagnosis.name, "password=tulip " * 100_000)

    text = (await World({"docker": Long()}).diagnose(Logs(), workload(), acting=False)).text
    assert len(text) <= EVIDENCE_CHARACTERS_MAX
    assert "tulip" not in text


@pytest.mark.parametrize("family", [TransientError, PermanentError, OutcomeUnknown, StoreUnavailable])
def test_an_error_of_a_neighbour_keeps_no_secret(family):
    assert str(family(LEAK)) == SHOWN


@pytest.mark.parametrize("cut_at", range(1, 30))
def test_a_secret_that_the_cut_goes_through_does_not_survive_in_part(cut_at):
    rest = " and so on" * 50
    assert "tulip" not in readable(f"password=tulip-tulip-tulip{rest}", len(rest) + cut_at)


def test_what_was_left_out_is_counted_though_it_was_not_looked_at():
    shown = readable("x" * (LOOKED_AT_MAX + 5), 100)
    assert shown == f"[{LOOKED_AT_MAX - 95} characters before this left out]\n{'x' * 100}"


@pytest.mark.parametrize("form", ["json", "console"])
def test_the_log_writes_no_secret_in_values_lists_and_tracebacks(form):
    stream = io.StringIO()
    log = make_log(form, "info", stream)
    try:
        raise ValueError(LEAK)
    except ValueError as error:
        log.error("broke", error=repr(error), commands=[LEAK], facts={"seen": LEAK}, raw=error, exc_info=True)
    written = stream.getvalue()
    assert written.count("[redacted]@cache") == 5
    assert "ValueError" in written
    assert "tulip" not in written
    assert "crocus" not in written


def test_the_log_bounds_a_value_after_its_secrets_are_gone():
    stream = io.StringIO()
    make_log("json", "info", stream).info("told", seen="x" * 1_990 + " password=tulip-and-crocus" + "x" * 1_000)
    assert "tulip" not in stream.getvalue()


def test_what_libraries_log_goes_the_same_way(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logging.root, "level", logging.WARNING)
    quiet_libraries(stream)
    logging.getLogger("aiohttp.client").warning("cannot reach %s", "http://ann:tulip@shop/health")
    assert stream.getvalue().endswith("aiohttp.client: cannot reach http://ann:[redacted]@shop/health\n")


def test_an_escalation_repeats_no_secret_of_the_alert_s_annotations():
    alert = episode(annotations={"description": LEAK})
    run = Run(
        "r1", alert, "api-down", "v1", RunState.ESCALATED, 0, 1, NOW, NOW + timedelta(minutes=30), Reason.GAVE_UP, "docker:x/y"
    )
    assert escalation(run, playbook(), []).payload["annotations"] == {"description": SHOWN}


async def test_two_identities_that_are_secrets_stay_two(tmp_path):
    """Were both shown as `[redacted]`, a restart in doubt would look as if it had not happened, and be repeated."""
    identity = tmp_path / "identity"
    target = CommandTarget(status=("true",), restart=("true",), identity=("cat", str(identity)))
    platform = CommandPlatform({"mailer": target})
    (found,) = await platform.find(Selection({"name": "mailer"}))
    identity.write_text("token=tulip1")
    mark = await platform.mark(Restart(), found)
    identity.write_text("token=crocus2")
    observation = await platform.observe(Restart(), found, mark)
    assert observation.happened is Happened.YES
    assert "tulip1" not in f"{mark}{observation.seen}"
    assert REDACTED not in mark["identity"]
