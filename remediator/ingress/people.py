"""Requests of people: who may make them, and what they must say, as JSON.

Who may: with REMEDIATOR_OPERATORS_FILE, whoever has a token of it; without, only callers on the same host, who must say
who they are. A page in a browser on that host is no such caller: it sends `Origin` with what it posts (CSRF), and a name
of its own in `Host` once it has that name point here (DNS rebinding); both are refused. Some things only a person with a
token may do: being on the host proves nobody's name.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from remediator.core.redaction import redacted
from remediator.ingress.auth import Operators
from remediator.ports import StoreUnavailable

LOCAL_ONLY = "only callers on the same host may do this, at localhost or a loopback address, and no web page"
NO_OPERATORS = (
    "only a named person may do this, and nobody has a name here: write a line name:token for each of them into a file, "
    "and let REMEDIATOR_OPERATORS_FILE name it"
)
TEXT_CHARACTERS_MAX = 1_000
NOT_LOCAL = frozenset({"Forwarded", "X-Forwarded-For", "Origin"})
"""Headers of proxies, and of requests that a web page has caused."""

ForPerson = Callable[[web.Request, str], Awaitable[web.Response]]
"""Answers a request of a person, of whom it is told the name: empty for a caller on this host who has no token."""
Handler = Callable[[web.Request], Awaitable[web.Response]]


class People:
    """Lets through who may. A store that is down is a 503."""

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    def any(self, handler: ForPerson) -> Handler:
        """Operators or, where none are configured, callers on this host."""
        return self._guarded(handler, self._refused)

    def named(self, handler: ForPerson) -> Handler:
        """Operators with a token, and nobody else."""

        def refused(request: web.Request, who: str) -> web.Response | None:
            return self._refused(request, who) if self._operators.tokens else refusal(403, NO_OPERATORS)

        return self._guarded(handler, refused)

    def _guarded(self, handler: ForPerson, refused: Callable[[web.Request, str], web.Response | None]) -> Handler:
        async def guarded(request: web.Request) -> web.Response:
            who = self._operators.who(request.headers.get("Authorization", ""))
            if (answer := refused(request, who)) is not None:
                return answer
            try:
                return await handler(request, who)
            except StoreUnavailable as error:
                return refusal(503, str(error))

        return guarded

    def _refused(self, request: web.Request, who: str) -> web.Response | None:
        if self._operators.tokens and not who:
            return refusal(401, "send a bearer token of REMEDIATOR_OPERATORS_FILE")
        if not self._operators.tokens and not _is_local(request):
            return refusal(403, f"until REMEDIATOR_OPERATORS_FILE is configured, {LOCAL_ONLY}")
        return None


def text_of(body: Mapping[str, Any], name: str) -> str:
    """What the body says under `name`, on one line, without secrets; empty if it is no text, too long, or not printable."""
    value = body.get(name)
    text = redacted(" ".join(value.split())) if isinstance(value, str) else ""
    return text if len(text) <= TEXT_CHARACTERS_MAX and text.isprintable() else ""


def who_and_why(who: str, body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Who commands, by token or, on this host, by their own word, and why. None if either is missing."""
    by, why = who or text_of(body, "by"), text_of(body, "why")
    return (by, why) if by and why else None


async def json_object(request: web.Request) -> Mapping[str, Any]:
    """The body of a command. Raises the 4xx that says what is wrong with it."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json\n")
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is not JSON\n") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object\n")
    return body


def refusal(status: int, why: str, **more: Any) -> web.Response:
    """An answer that says why not."""
    return web.json_response({"error": why, **more}, status=status)


def _is_local(request: web.Request) -> bool:
    """From this host itself: not through a proxy that stands on it, nor by a page in a browser that runs on it."""
    if not NOT_LOCAL.isdisjoint(request.headers):
        return False
    try:
        called = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(request.remote or "") and (called == "localhost" or _is_loopback(called))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
