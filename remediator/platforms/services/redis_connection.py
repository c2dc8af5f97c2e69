"""A connection to a configured Redis, with deadlines. The only module that knows redis-py.

Nothing is retried, and no connection is made anew in the middle: what changes something goes over the connection that has
just answered, or nowhere.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError, ResponseError

from remediator.platforms.services.addresses import NotConfigured, Services, address_of
from remediator.ports import OutcomeUnknown, PermanentError, TransientError

TIMEOUT_S = 3.0
"""For connecting, and for each answer."""
Client: TypeAlias = Redis


@asynccontextmanager
async def connected(services: Services, name: str) -> AsyncIterator[Client]:
    """A client with one connection. Raises TransientError (no answer) or PermanentError (not let in)."""
    address = address_of(services, "redis", name)
    try:
        redis = Redis.from_url(
            address,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name="remediator",
            single_connection_client=True,
        )
    except ValueError:
        # Not chained: the error may quote the address, and that may hold the password.
        raise NotConfigured(f"services.{name}.redis is not an address; write redis://host:6379/0") from None
    try:
        async with redis:
            yield redis
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise PermanentError(f"Redis {name!r} does not let remediator in: {error}") from error
    except RedisError as error:
        # asyncio says "Connect call failed" where everybody else says this.
        refused = isinstance(error.__cause__ or error.__context__, ConnectionRefusedError)
        raise TransientError(f"Redis {name!r} does not answer: {'connection refused' if refused else error}") from error


async def ask(redis: Client, *command: str) -> Any:
    """The answer to a command for which redis-py has no method that fits."""
    return await redis.execute_command(*command)  # type: ignore[no-untyped-call]  # nor a typed one


async def send(redis: Client, before: Callable[[], None], *command: str) -> Any:
    """Send a command that changes something, once, and return its answer. `before` raises, instead, what this raises.

    Raises PermanentError (refused) or OutcomeUnknown.
    """
    before()
    with in_doubt(command[0]):
        return await ask(redis, *command)


@contextmanager
def in_doubt(command: str) -> Iterator[None]:
    """After a command was sent, silence says nothing of it. Raises PermanentError (refused) or OutcomeUnknown."""
    try:
        yield
    except ResponseError as error:
        raise PermanentError(f"Redis refuses {command}: {error}") from error
    except RedisError as error:
        raise OutcomeUnknown(f"Redis did not say what became of {command}: {error}") from error


def without_password(address: str) -> str:
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def database_of(redis: Client) -> str:
    """The number of the database that the address names."""
    return str(redis.connection_pool.connection_kwargs.get("db", 0))
