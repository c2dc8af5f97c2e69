"""What became of a step in doubt: each container against its mark. Asks the engine only for what a rollback left behind."""

from collections.abc import Iterable

from remediator.core.target import Health
from remediator.platforms.docker_container import LEFT_OVER, Container, coming_name, parked_name
from remediator.platforms.docker_engine import Client
from remediator.ports import Facts, Happened, Observation


def restarted(was: Facts, now: Container | None) -> Observation:
    if now is None:
        return Observation(Happened.UNKNOWN, f"{was['name']} is gone")
    if (now.id, now.started_at) != (was["id"], was["started_at"]) and now.runs:
        return Observation(Happened.YES, f"{now.name} runs since {now.started_at}, before that since {was['started_at']}")
    return _as_before(was, now)


def stopped(was: Facts, now: Container | None) -> Observation:
    if now is None or now.health is Health.STOPPED:
        return Observation(Happened.YES, f"{was['name']} is {now.status if now else 'gone'}")
    return _as_before(was, now)


def rolled_back(to: str, was: Facts, now: Container | None, left: frozenset[str]) -> Observation:
    if now is not None and now.id != was["id"] and now.image == to and now.runs:
        return Observation(Happened.YES, f"{now.name} runs {to} since {now.started_at}")
    if now is not None and (before := _as_before(was, now)).happened is Happened.NO:
        return before
    holder = f"{now.name} is {now.status} with {now.image}" if now else f"nothing is called {was['name']}"
    return Observation(Happened.UNKNOWN, f"the rollback is half done: {holder}\n{_way_out(to, was, now, left)}")


def _as_before(was: Facts, now: Container) -> Observation:
    if (now.id, now.started_at, now.status) == (was["id"], was["started_at"], was["state"]):
        return Observation(Happened.NO, f"{now.name} is {now.status} since {now.started_at}, as before")
    return Observation(
        Happened.UNKNOWN, f"{now.name} is {now.status} since {now.started_at}; before: {was['state']} since {was['started_at']}"
    )


def _way_out(to: str, was: Facts, now: Container | None, left: frozenset[str]) -> str:
    """The commands that finish a half-done rollback, and those that undo it, as far as either is possible."""
    name, parked, coming = was["name"], parked_name(was["name"], was["id"]), coming_name(was["name"], was["id"])
    is_old = now is not None and now.id == was["id"]
    finish: list[str] = []
    if coming in left:
        park = [f"docker stop {name}", f"docker rename {name} {parked}"] if is_old else []
        finish = [*park, f"docker rename {coming} {name}", f"docker start {name}", f"docker rm {parked}"]
    elif now is not None and now.image == to and not is_old:
        finish = [f"docker start {name}", *([f"docker rm {parked}"] if parked in left else [])]
    undo: list[str] = []
    if is_old or parked in left:
        undo = [f"docker rm -f {coming}"] if coming in left else []
        undo += [] if is_old else [*([f"docker rm -f {name}"] if now else []), f"docker rename {parked} {name}"]
        undo += [f"docker start {name}"]
    ways = [f"to {way}: {' && '.join(commands)}" for way, commands in (("finish", finish), ("undo", undo)) if commands]
    return "\n".join(ways) or f"somebody else has replaced it meanwhile, and neither {parked} nor {coming} is left"


def together(each: Iterable[Observation]) -> Observation:
    """One answer for all instances, or Unknown where they differ. None to ask about: there was nothing to do."""
    seen = list(each)
    fates = {one.happened for one in seen}
    return Observation(
        fates.pop() if len(fates) == 1 else Happened.UNKNOWN if fates else Happened.NO, "; ".join(one.seen for one in seen)
    )


def left_over(client: Client) -> frozenset[str]:
    found = client.containers(all=True, filters={"name": LEFT_OVER.pattern})
    return frozenset(name.removeprefix("/") for summary in found for name in summary["Names"])
