"""Several replicas on one PostgreSQL, in one process: what one begins the others neither repeat nor leave lying."""

import pytest

from tests.builders import webhook_message
from tests.fakes import FakePlatform, harness


@pytest.fixture
def store(postgres_databases):
    with postgres_databases.database("template0") as address:
        yield address.source


async def test_an_alert_is_repaired(tmp_path, store):
    async with harness(tmp_path, store=store) as h:
        assert await h.post(webhook_message()) == 200
        (_run,) = await h.until("succeeded")
        assert h.platform.performed == ["restart"]


async def test_what_both_of_a_pair_report_to_different_replicas_is_done_once(tmp_path, store):
    platform = FakePlatform()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with harness(tmp_path / "a", platform, store=store) as a, harness(tmp_path / "b", platform, store=store) as b:
        assert [await each.post(webhook_message()) for each in (a, b)] == [200, 200]
        (_run,) = await a.until("succeeded")
        assert await b.runs() == await a.runs()
        assert platform.performed == ["restart"]
