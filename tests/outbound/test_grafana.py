"""One Grafana annotation for each run, whatever happens on the way."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from remediator.outbound.grafana import AnnotationPayload, GrafanaAnnotations
from remediator.ports import Channel, Message, PermanentError, TransientError
from tests.grafana_fake import EVERYTHING, TOKEN, GrafanaFake, grafana_fake
from tests.servers import free_port

BEGUN = AnnotationPayload(run="r1", time=1_700_000_000_000, time_end=None, tags=["remediator", "redis-down"], text="restarting")
ENDED: AnnotationPayload = {**BEGUN, "time_end": 1_700_000_060_000, "text": "restarted, verified"}
FIRST = Message(key="annotation:r1", channel=Channel.ANNOTATION, payload=BEGUN, attempts=1)


@pytest.fixture
async def grafana() -> AsyncIterator[GrafanaFake]:
    async with grafana_fake() as fake:
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
def annotations(grafana, session) -> GrafanaAnnotations:
    return GrafanaAnnotations(session, grafana.url, TOKEN)


async def test_a_run_is_annotated_once_and_its_end_is_added_to_the_same_annotation(annotations, grafana):
    receipt = await annotations.deliver(FIRST)
    begun = dict(grafana.annotations[int(receipt)])
    assert await annotations.deliver(replace(FIRST, payload=ENDED, receipt=receipt)) == receipt
    assert begun["tags"] == ["run:r1", "remediator", "redis-down"]
    assert (begun["time"], begun["timeEnd"]) == (1_700_000_000_000, 1_700_000_000_000)
    (ended,) = grafana.tagged("run:r1")
    assert (ended["time"], ended["timeEnd"], ended["text"]) == (1_700_000_000_000, 1_700_000_060_000, "restarted, verified")
    assert grafana.requests == ["POST /api/annotations", f"PATCH /api/annotations/{receipt}"]


async def test_the_tag_of_the_run_is_there_once_though_it_was_given_too(annotations, grafana):
    receipt = await annotations.deliver(replace(FIRST, payload={**BEGUN, "tags": ["remediator", "run:r1"]}))
    assert grafana.annotations[int(receipt)]["tags"] == ["run:r1", "remediator"]


async def test_a_delivery_that_arrived_without_an_answer_is_found_again(annotations, grafana):
    annotations._grafana = replace(annotations._grafana, seconds=0.2)
    grafana.slow = True
    with pytest.raises(TransientError, match=r"Grafana did not answer within 0\.2s"):
        await annotations.deliver(FIRST)
    grafana.slow = False
    receipt = await annotations.deliver(replace(FIRST, payload=ENDED, attempts=2))
    (only,) = grafana.tagged("run:r1")
    assert str(only["id"]) == receipt
    assert only["text"] == "restarted, verified"


async def test_a_second_attempt_creates_the_annotation_if_the_first_did_not_arrive(annotations, grafana):
    grafana.failing = 503
    with pytest.raises(TransientError):
        await annotations.deliver(FIRST)
    grafana.failing = 0
    await annotations.deliver(replace(FIRST, attempts=2))
    assert len(grafana.tagged("run:r1")) == 1


async def test_annotations_of_other_runs_are_left_alone(annotations, grafana):
    await annotations.deliver(replace(FIRST, payload={**BEGUN, "run": "r2"}))
    await annotations.deliver(replace(FIRST, attempts=2))
    assert len(grafana.tagged("run:r1")) == len(grafana.tagged("run:r2")) == 1
    assert len(grafana.tagged("remediator")) == 2


async def test_an_annotation_that_somebody_deleted_is_created_again(annotations, grafana):
    receipt = await annotations.deliver(FIRST)
    grafana.annotations.clear()
    await annotations.deliver(replace(FIRST, payload=ENDED, receipt=receipt))
    (only,) = grafana.tagged("run:r1")
    assert only["text"] == "restarted, verified"


async def test_a_wrong_token_is_permanent(grafana, session):
    with pytest.raises(
        PermanentError, match=r"Grafana answered 401: Invalid API key \(the token is unknown, expired or revoked\)"
    ):
        await GrafanaAnnotations(session, grafana.url, "wrong").deliver(FIRST)


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("annotations:create", FIRST),
        ("annotations:write", replace(FIRST, receipt="1")),
        ("annotations:read", replace(FIRST, attempts=2)),
    ],
)
async def test_a_token_without_a_permission_is_told_which_one_it_lacks(annotations, grafana, lacking, message):
    await annotations.deliver(FIRST)
    grafana.permissions = EVERYTHING - {lacking}
    with pytest.raises(PermanentError, match=f"the token lacks {lacking}"):
        await annotations.deliver(message)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_what_may_pass_is_transient(annotations, grafana, status):
    grafana.failing = status
    with pytest.raises(TransientError) as raised:
        await annotations.deliver(FIRST)
    assert raised.value.retry_after is None


async def test_the_wait_that_grafana_asks_for_is_passed_on(annotations, grafana):
    grafana.failing, grafana.retry_after = 429, "17"
    with pytest.raises(TransientError) as raised:
        await annotations.deliver(FIRST)
    assert raised.value.retry_after == 17


async def test_a_request_that_grafana_does_not_understand_is_permanent(annotations):
    with pytest.raises(PermanentError, match="400"):
        await annotations.deliver(replace(FIRST, payload={**BEGUN, "text": ""}))


async def test_a_grafana_that_is_gone_is_transient(session):
    with pytest.raises(TransientError, match="Grafana does not answer"):
        await GrafanaAnnotations(session, f"http://127.0.0.1:{free_port()}", TOKEN).deliver(FIRST)
