"""Where the store is, as REMEDIATOR_STORE names it: a file of SQLite, by its path, or a database of PostgreSQL."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")
FILE = "file:"


class BadAddress(Exception):
    """It names no store; the text says what to write instead."""


@dataclass(frozen=True, slots=True, repr=False)
class PostgresAddress:
    """`source` is libpq's URL of the database, or `file:` and the path of a file that holds it. Shown without secrets."""

    source: str

    def url(self) -> str:
        """The address itself, secrets included. Read at use, so that a rotated password needs no restart. Raises BadAddress."""
        if not self.source.startswith(FILE):
            return self.source
        path = self.source.removeprefix(FILE)
        try:
            url = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadAddress(f"{path} cannot be read: {error}") from error
        if not url.startswith(POSTGRES):
            raise BadAddress(f"{path} does not hold an address such as postgresql://user:password@host/database")
        return url

    def __str__(self) -> str:
        if self.source.startswith(FILE):
            return self.source
        return _without_secrets(self.source)

    __repr__ = __str__


Address: TypeAlias = Path | PostgresAddress


def parse_address(text: str) -> Address:
    """The store that `text` names. Raises BadAddress."""
    if text.startswith(POSTGRES) or (text.startswith(FILE) and text != FILE):
        return PostgresAddress(text)
    if text.startswith(SQLITE) and text != SQLITE:
        return Path(text.removeprefix(SQLITE))
    raise BadAddress(
        "it is not an address of a store; write one as sqlite:///data/remediator.db, "
        "postgresql://user@host/database, or file:/run/secrets/store-url to read it from there"
    )


def _without_secrets(url: str) -> str:
    """Without user, password and parameters, each of which may hold one."""
    scheme, _, rest = url.partition("://")
    place, _, parameters = rest.partition("?")
    return f"{scheme}://…" if "@" in parameters else f"{scheme}://{place.rpartition('@')[2]}"
