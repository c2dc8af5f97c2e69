"""Prune on a real engine that others use, too: real listings, while what would be removed is heard and goes no further.

What is removed for real is an image of this test's own, older than any other, or a container by its id.
"""

import asyncio
import io
import json
import os
import tarfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from shutil import which
from time import monotonic
from typing import Any

import pytest

from remediator.core.step import Prune
from remediator.core.target import Workload
from remediator.platforms.docker_prune import Fate, Tally, forgotten_containers, own_bytes, removed, unused_images
from tests.docker_bench import ALLOW_ALL, Between, bench_on, standing_between
from tests.images import Containers, engine_url, image_id, own_containers

NOBODY = Workload("docker", "container", "web")
PROTECTED = {"remediator.io/protected": "the socket proxy"}
AGES = timedelta(days=20 * 365)
NOW = datetime(2026, 1, 31, tzinfo=UTC)


# --- Judging ------------------------------------------------------------------------------------------------------------


def image(name: str, parent: str = "", age: timedelta = timedelta(days=9), size: int = 1) -> Mapping[str, Any]:
    return {"Id": name, "ParentId": parent, "Created": int((NOW - age).timestamp()), "Size": size}


@pytest.mark.parametrize(
    ("listed", "unused"),
    [
        ([image("a"), image("b")], ["a", "b"]),
        ([image("used"), image("release"), image("young", age=timedelta(hours=1)), image("a")], ["a"]),
        ([image("base"), image("middle", "base"), image("used", "middle"), image("side", "base")], ["side"]),
        ([image("base"), image("middle", "base"), image("release", "middle")], []),
        ([image("base"), image("young", "base", age=timedelta(hours=1))], []),
        ([image("base"), image("middle", "base"), image("top", "middle")], ["top", "middle", "base"]),
        ([image("pulled", "of an image that is not here")], ["pulled"]),
    ],
)
def test_images_in_use_releases_young_ones_and_what_these_are_made_of_stay(listed: Any, unused: list[str]) -> None:
    assert unused_images(listed, {"used"}, ["release"], NOW - timedelta(days=1)) == unused


def test_what_an_image_shares_with_its_parent_is_counted_once() -> None:
    assert own_bytes([image("base", size=100), image("top", "base", size=130)]) == {"base": 100, "top": 30}


@pytest.mark.parametrize(
    ("state", "labels", "forgotten"),
    [
        ("exited", None, True),
        ("created", {"other": "label"}, True),
        ("dead", {}, True),
        ("exited", ALLOW_ALL, False),
        ("exited", PROTECTED, False),
        ("running", {}, False),
        ("paused", {}, False),
        ("restarting", {}, False),
    ],
)
def test_containers_are_forgotten_when_they_have_stopped_without_a_label_of_ours(
    state: str, labels: Any, forgotten: bool
) -> None:
    assert forgotten_containers([{"Id": "one", "State": state, "Labels": labels}]) == ["one"] * forgotten


def test_when_the_time_is_over_no_removal_is_begun_and_the_rest_is_left_for_the_next_time() -> None:
    tally = Tally("image")
    assert list(tally.in_time(["one"], ends_at=monotonic() - 1)) == []
    assert str(tally) == "0 images, the rest left for the next time"
    assert list(tally.in_time(["one"], ends_at=monotonic() + 60)) == ["one"]


# --- On the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture
def containers() -> Iterator[Containers]:
    with own_containers() as own:
        yield own


@pytest.fixture
async def deaf(containers: Containers) -> AsyncIterator[Between]:
    """Stands before the engine and keeps every DELETE to itself, as if it had been done."""
    async with standing_between() as one:
        one.answers = {"DELETE /": []}
        yield one


def deleted(between: Between) -> set[str]:
    """The ids that were to be removed."""
    paths = [line.split()[1] for line in between.requests if line.startswith("DELETE")]
    return {path.split("?")[0].rsplit("/", 1)[-1] for path in paths}


class Relics:
    """Images of one test, from 2001: older than any other on the engine."""

    def __init__(self, containers: Containers) -> None:
        self._client = containers.client
        self._unique = containers.unique
        self.ids: list[str] = []

    def dig_up(self, *repositories: str) -> str:
        """Load an image with a tag in each of these repositories; its id."""
        content = f"{self._unique} {repositories}".encode()
        layer = archive({"content": content})
        about = {"created": "2001-01-01T00:00:00Z", "architecture": "amd64", "os": "linux", "config": {}}
        config = json.dumps(
            about | {"rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]}}
        ).encode()
        tags = [f"{self._unique}/{repository}:1" for repository in repositories]
        manifest = json.dumps([{"Config": "config.json", "RepoTags": tags, "Layers": ["layer.tar"]}]).encode()
        list(self._client.load_image(archive({"manifest.json": manifest, "config.json": config, "layer.tar": layer})))
        self.ids.append(str(self._client.inspect_image(tags[0])["Id"]))  # type: ignore[no-untyped-call]
        return self.ids[-1]

    def left(self) -> set[str]:
        return {one["Id"] for one in self._client.images(all=True)} & set(self.ids)

    def remove_all(self) -> None:
        for one in self.left():
            self._client.remove_image(one, force=True)


def archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def relics(containers: Containers) -> Iterator[Relics]:
    own = Relics(containers)
    yield own
    containers.remove_all()
    own.remove_all()


@pytest.mark.docker
async def test_what_is_needed_is_never_asked_to_be_removed(deaf: Between, containers: Containers, relics: Relics) -> None:
    forgotten = containers.run("forgotten", "v2", start=False)
    needed = {
        containers.run("running", "v1"),
        containers.run("opted-in", start=False, Labels=ALLOW_ALL),
        containers.run("protected", start=False, Labels=PROTECTED),
        image_id(containers.client, "v1"),
        image_id(containers.client, "v2"),
        release := relics.dig_up("release"),
    }
    unused = relics.dig_up("unused")
    async with bench_on(deaf.url, containers, seconds=20) as bench:
        said = await bench.actuator.perform(Prune(older_than=timedelta(), keep=(release,)), NOBODY, {})
    assert {forgotten, unused} <= deleted(deaf)
    assert not needed & deleted(deaf)
    assert said.startswith("removed ")
    assert " container" in said
    assert " image" in said
    writes = [line for line in deaf.requests if not line.startswith("GET")]
    assert all(line.startswith("DELETE") and "force" not in line and "v=" not in line for line in writes)


@pytest.mark.docker
@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (Prune(older_than=AGES), {"relic"}),
        (Prune(older_than=AGES, images=False), set()),
        (Prune(older_than=timedelta(), containers=False), {"relic"}),
    ],
)
async def test_only_what_was_asked_for_is_removed_if_it_is_old_enough(
    deaf: Between, containers: Containers, relics: Relics, step: Prune, asked: set[str]
) -> None:
    own = {containers.run("forgotten", start=False): "container", relics.dig_up("relic"): "relic"}
    async with bench_on(deaf.url, containers, seconds=20) as bench:
        await bench.actuator.perform(step, NOBODY, {})
    assert {own[one] for one in deleted(deaf) & own.keys()} == asked


@pytest.mark.docker
async def test_an_unused_image_goes_and_a_release_or_one_that_the_engine_refuses_to_remove_stays(
    containers: Containers, relics: Relics
) -> None:
    others = tuple(one["Id"] for one in containers.client.images(all=True))
    relics.dig_up("unused")
    release, twice = relics.dig_up("release"), relics.dig_up("one-name", "another-name")
    step = Prune(containers=False, older_than=AGES, keep=(*others, release))
    async with bench_on(engine_url(), containers, seconds=20) as bench:
        said = await bench.actuator.perform(step, NOBODY, {})
    assert relics.left() == {release, twice}
    assert said.startswith("removed 1 image (up to 0.0 MiB), 1 left that the engine refused to remove")


@pytest.mark.docker
def test_a_container_is_removed_without_its_volumes_and_not_while_it_runs(containers: Containers) -> None:
    runs, stopped = containers.run("runs"), containers.run("stopped", "v2", start=False)
    (volume,) = [mount["Name"] for mount in containers.told(stopped)["Mounts"]]
    fates = [removed(f"/containers/{one}", containers.client) for one in (runs, stopped, stopped)]
    assert fates == [Fate.REFUSED, Fate.REMOVED, Fate.GONE]
    assert containers.all_names() == {containers.name("runs")}
    assert containers.client.inspect_volume(volume)["Name"] == volume  # type: ignore[no-untyped-call]


@pytest.mark.docker
async def test_the_commands_for_a_person_remove_the_same(
    deaf: Between, containers: Containers, relics: Relics, tmp_path: Path
) -> None:
    """With a `docker` that says what it would remove, and does everything else."""
    real = which("docker")
    if real is None:
        pytest.skip("no docker command to type them into")
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\ncase "$1 $2" in rm\\ *|"image rm") echo "$@" ;; *) exec {real} "$@" ;; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    own = {
        containers.run("forgotten", start=False),
        containers.run("opted-in", start=False, Labels=ALLOW_ALL),
        containers.run("protected", start=False, Labels=PROTECTED),
        release := relics.dig_up("release"),
        relics.dig_up("unused"),
    }
    for step in (
        Prune(older_than=timedelta(), keep=(release,)),
        Prune(older_than=AGES, keep=(release,)),
        Prune(older_than=AGES, images=False),
    ):
        deaf.requests.clear()
        async with bench_on(deaf.url, containers, seconds=20) as bench:
            await bench.actuator.perform(step, NOBODY, {})
            typed = bench.platform.describe(step, NOBODY)
        environment = {"DOCKER_HOST": engine_url(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        shell = await asyncio.create_subprocess_exec("sh", "-c", typed, stdout=PIPE, env=environment)
        words, _ = await shell.communicate()
        assert own & set(words.decode().split()) == own & deleted(deaf)
