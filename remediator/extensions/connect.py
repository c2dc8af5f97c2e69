"""Opens the extensions that the configuration file names. One that cannot be opened stops the start: the error says which."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from remediator.extensions import Options
from remediator.extensions.contained import ContainedActuator, ContainedPlatform
from remediator.extensions.installed import Added, Installed
from remediator.ports import Actuator, Platform
from remediator.yaml_lines import instead


class BadExtension(Exception):
    """An extension cannot be used. The text names it and its package, and says what to do."""


def unknown(configured: Mapping[str, Options], installed: Installed) -> Iterator[str]:
    """What is configured and not installed."""
    names = [each.name for each in installed.added]
    for name in configured.keys() - set(names):
        advice = instead(name, names) if names else "none is; install the package that brings it"
        yield f"extensions.{name}: no such extension is installed: {advice}"


@dataclass(frozen=True, slots=True)
class Connected:
    """Both sides of the extensions that are open, by name."""

    platforms: dict[str, Platform] = field(default_factory=dict)
    actuators: dict[str, Actuator] = field(default_factory=dict)


@asynccontextmanager
async def connected(
    configured: Mapping[str, Options], installed: Installed, may_send: Callable[[], bool] | None
) -> AsyncIterator[Connected]:
    """Opens what is configured; the writing sides only if there is a `may_send`. Raises BadExtension."""
    for wrong in unknown(configured, installed):
        raise BadExtension(wrong)
    sides = Connected()
    async with AsyncExitStack() as stack:
        for each in installed.added:
            if each.name in configured:
                with _blamed_on(each):
                    await _open(each, configured[each.name], may_send, stack, sides)
        yield sides


async def _open(
    each: Added, options: Options, may_send: Callable[[], bool] | None, stack: AsyncExitStack, sides: Connected
) -> None:
    reading = await stack.enter_async_context(each.extension.reading(options))
    sides.platforms[each.name] = ContainedPlatform(each, reading)
    if may_send is not None and each.extension.writing is not None:
        writing = await stack.enter_async_context(each.extension.writing(options))
        sides.actuators[each.name] = ContainedActuator(each, writing, may_send)


@contextmanager
def _blamed_on(each: Added) -> Iterator[None]:
    """A ValueError says what is wrong with the options; anything else is a bug of the package."""
    try:
        yield
    except Exception as error:
        what = str(error) if isinstance(error, ValueError) else f"it broke down: {type(error).__name__}: {error}"
        raise BadExtension(f"extensions.{each.name} in the configuration file ({each.package}): {what}") from error
