"""Prune: what nobody needs any more, listed, judged, and removed one by one by its id. Never volumes, and nothing by force.

Not the engine's own prune, which would remove the image of the release before: the one a rollback goes back to.
"""

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from remediator.core.step import Prune
from remediator.platforms.docker_container import ALLOW, PROTECTED, Container, moment
from remediator.platforms.docker_engine import APIError, Client, DockerEngine, NotFound, after, request
from remediator.ports import Facts, PortError

T = TypeVar("T")
STOPPED = ("created", "exited", "dead")


# --- Judging: pure ------------------------------------------------------------------------------------------------------


def forgotten_containers(listed: Iterable[Facts]) -> list[str]:
    """Ids of the stopped ones without our labels: one that opted in may be there to be started."""
    return [
        str(one["Id"]) for one in listed if one["State"] in STOPPED and not {ALLOW, PROTECTED}.intersection(one["Labels"] or ())
    ]


def stopped_at(one: Container) -> datetime:
    """When it ended, or if it never ran, when it was created."""
    return max(moment(one.told["Created"]), moment(one.state["FinishedAt"]))


def unused_images(listed: Sequence[Facts], used: Collection[str], keep: Collection[str], before: datetime) -> list[str]:
    """Ids of those that are not needed: not `used` by containers, not to `keep`, not younger, and no part of one that is.

    Children come before their parents, which the engine would not remove first.
    """
    parents = {str(one["Id"]): str(one.get("ParentId") or "") for one in listed}
    needed: set[str] = set()
    for one in listed:
        if one["Id"] in used or one["Id"] in keep or one["Created"] > before.timestamp():
            needed.update(_lineage(one["Id"], parents))
    return sorted(parents.keys() - needed, key=lambda image: (-len(_lineage(image, parents)), image))


def own_bytes(listed: Sequence[Facts]) -> dict[str, int]:
    """The size of each image by its id, without its parent's. Layers that images share otherwise are counted in each."""
    sizes = {str(one["Id"]): int(one["Size"]) for one in listed}
    return {str(one["Id"]): int(one["Size"]) - sizes.get(one.get("ParentId") or "", 0) for one in listed}


def _lineage(image: str, parents: Mapping[str, str]) -> list[str]:
    """The image and what it was built upon, as far as this engine knows."""
    found = []
    while image in parents:
        found.append(image)
        image = parents[image]
    return found


# --- Removing -----------------------------------------------------------------------------------------------------------


class Fate(StrEnum):
    """What became of one thing that should be removed."""

    REMOVED = "removed"
    REFUSED = "refused"
    GONE = "gone"


@dataclass(slots=True)
class Tally:
    """What was removed so far, for a person: `3 images (up to 12.5 MiB)`."""

    noun: str
    at_most: str = ""
    removed: int = 0
    bytes: int = 0
    refused: int = 0
    cut_short: bool = False

    def count(self, fate: Fate, size: int) -> None:
        self.removed += fate is Fate.REMOVED
        self.bytes += size if fate is Fate.REMOVED else 0
        self.refused += fate is Fate.REFUSED

    def in_time(self, things: Iterable[T], ends_at: float) -> Iterator[T]:
        for thing in things:
            self.cut_short = time.monotonic() >= ends_at
            if self.cut_short:
                return
            yield thing

    def __str__(self) -> str:
        told = f"{self.removed} {self.noun}{'' if self.removed == 1 else 's'}"
        if self.removed:
            told += f" ({self.at_most}{self.bytes / 2**20:.1f} MiB)"
        if self.refused:
            told += f", {self.refused} left that the engine refused to remove (in use, or tagged in several repositories)"
        return told + (", the rest left for the next time" if self.cut_short else "")


async def pruned(step: Prune, engine: DockerEngine) -> str:
    """Remove containers, then the images that nothing uses without them; begin no removal after the step's timeout."""
    ends_at = time.monotonic() + step.timeout.total_seconds()
    before = moment((await engine.read(lambda client: client.info()))["SystemTime"]) - step.older_than
    containers, images = Tally("container"), Tally("image", at_most="up to ")
    try:
        if step.containers:
            await _prune_containers(containers, engine, before, ends_at)
        if step.images:
            await _prune_images(images, engine, step.keep, before, ends_at)
    except PortError as error:
        raise after("removed", [str(tally) for tally in (containers, images) if tally.removed], error) from error
    asked = [str(tally) for tally, wanted in ((containers, step.containers), (images, step.images)) if wanted]
    return f"removed {'; '.join(asked) or 'nothing'}"


async def _prune_containers(tally: Tally, engine: DockerEngine, before: datetime, ends_at: float) -> None:
    """Without `v`, which would remove the volumes that the engine named, too."""
    for container_id in tally.in_time(forgotten_containers(await engine.read(_containers)), ends_at):
        one = await engine.read(partial(_measured, container_id))
        if one is not None and stopped_at(one) <= before:
            fate = await engine.write(partial(removed, f"/containers/{container_id}"), _left(ends_at))
            tally.count(fate, int(one.told.get("SizeRw") or 0))


async def _prune_images(tally: Tally, engine: DockerEngine, keep: Collection[str], before: datetime, ends_at: float) -> None:
    """By id, since a tag may have moved since it was listed; with `noprune`, since untagged parents are judged here, too.

    The engine removes no id that is tagged in several repositories; such an image stays.
    """
    used = {str(one["ImageID"]) for one in await engine.read(_containers)}
    listed = await engine.read(_images)
    sizes = own_bytes(listed)
    for image in tally.in_time(unused_images(listed, used, keep, before), ends_at):
        fate = await engine.write(partial(removed, f"/images/{image}?noprune=1"), _left(ends_at))
        tally.count(fate, sizes[image])


def removed(path: str, client: Client) -> Fate:
    """Without force: what has come into use since it was listed (409) stays, and what somebody else removed is gone (404)."""
    try:
        request(client, "DELETE", path).close()
    except NotFound:
        return Fate.GONE
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise
        return Fate.REFUSED
    return Fate.REMOVED


def _containers(client: Client) -> Sequence[Facts]:
    listed: Sequence[Facts] = client.containers(all=True)
    return listed


def _images(client: Client) -> Sequence[Facts]:
    listed: Sequence[Facts] = client.images(all=True)
    return listed


def _measured(container_id: str, client: Client) -> Container | None:
    """With the size of its own layer, which takes the engine a while; None if it went away since it was listed."""
    try:
        return Container(request(client, "GET", f"/containers/{container_id}/json", params={"size": "1"}).json())
    except NotFound:
        return None


def _left(ends_at: float) -> timedelta:
    return timedelta(seconds=max(0.0, ends_at - time.monotonic()))
