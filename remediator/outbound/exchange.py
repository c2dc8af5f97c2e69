"""One bounded HTTP exchange with a neighbour, and what its failures mean. Nothing is retried here: the callers do that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from remediator.ports import PermanentError, PortError, TransientError

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1024 * 1024
SAID_CHARACTERS = 300

PASSING = {408, 425, 429}
"""Client errors that say `later`, not `never` (RFC 9110 and RFC 6585)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer. `retry_after` is in seconds and of any size, None if the header is missing or a date. `at` is when it
    was given, by the neighbour's own clock, or None if it does not say.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    at: datetime | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON. Raises PermanentError."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise PermanentError(f"the answer is not JSON but {self.said!r}; is this the right address?") from error

    @property
    def said(self) -> str:
        """The beginning of the body, for people; the message alone where the neighbour sends one."""
        try:
            content = json.loads(self.body)
        except (ValueError, RecursionError):
            content = None
        words = content.get("message") or content.get("error") if isinstance(content, dict) else None
        return str(words or self.body.decode(errors="replace")).strip()[:SAID_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody who speaks HTTP at a configured address. `name` is how errors call it; the session belongs to the caller."""

    name: str
    session: ClientSession
    url: str
    token: str = ""
    """Sent as a bearer token, if there is one."""
    seconds: float = TIMEOUT_S
    """For the whole exchange."""
    bytes_max: int = ANSWER_BYTES_MAX

    async def ask(
        self,
        method: str,
        path: str = "",
        *,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Whatever was answered, of whatever status. Raises TransientError (no answer) or PermanentError (an endless one).

        A request without an answer may have arrived: callers send only what may be sent again.
        """
        authorization = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            async with self.session.request(
                method,
                self.url + path,
                params=list(query),
                json=body,
                headers={**authorization, **(headers or {})},
                timeout=ClientTimeout(total=self.seconds),
                allow_redirects=False,  # the token is for this address only
            ) as response:
                retry_after, at = _seconds(response.headers.get("Retry-After", "")), _date(response.headers.get("Date", ""))
                return Answer(response.status, await self._body(response), retry_after, at)
        except TimeoutError as error:
            raise TransientError(f"{self.name} did not answer within {self.seconds:g}s") from error
        except ClientError as error:
            raise TransientError(f"{self.name} does not answer: {error}") from error

    async def _body(self, response: ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self.bytes_max:
                raise PermanentError(f"{self.name} answered with more than {self.bytes_max} bytes")
        return bytes(body)

    def refusal(self, answer: Answer, advice: str = "") -> PortError:
        """The error that an answer which is not `ok` amounts to: worth trying again, or not."""
        message = f"{self.name} answered {answer.status}: {answer.said}" + (f" ({advice})" if advice else "")
        if answer.status >= 500 or answer.status in PASSING:
            return TransientError(message, answer.retry_after)
        return PermanentError(message)


def _date(header: str) -> datetime | None:
    """RFC 9110: in GMT."""
    try:
        return parsedate_to_datetime(header)
    except ValueError:
        return None


def _seconds(header: str) -> float | None:
    return float(header) if header.isdecimal() else None
