"""What the tests of Kubernetes share: a fake control plane, and remediator in front of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.kubernetes_bench import Bench, fake_bench
from tests.kubernetes_fake import FakeCluster


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[tuple[Bench, FakeCluster]]:
    async with fake_bench(tmp_path) as made:
        yield made


@pytest.fixture
def bench(stage: tuple[Bench, FakeCluster]) -> Bench:
    return stage[0]


@pytest.fixture
def cluster(stage: tuple[Bench, FakeCluster]) -> FakeCluster:
    return stage[1]
