"""Who may post alerts and who may command: secrets from files, compared in constant time, never logged."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class BadSecretFile(Exception):
    """A configured secret cannot be used. Names the setting and the file, never the content."""


@dataclass(frozen=True, slots=True)
class WebhookAuth:
    """Bearer token, basic credentials, both or neither. Neither: everybody may post, and the mode stays `suggest`."""

    token: str = ""
    basic: str = ""
    """`user:password`."""

    @property
    def is_open(self) -> bool:
        return not self.token and not self.basic

    def admits(self, authorization: str) -> bool:
        """Whether a request with this `Authorization` header may post."""
        if self.is_open:
            return True
        scheme, _, given = authorization.partition(" ")
        match scheme.lower():
            case "bearer" if self.token:
                return _same(given.strip(), self.token)
            case "basic" if self.basic:
                return _same(_decoded(given), self.basic)
        return False


@dataclass(frozen=True, slots=True)
class Operators:
    """People who may command, by name."""

    tokens: Mapping[str, str]

    def who(self, authorization: str) -> str:
        """The name of the operator whose bearer token this is, or empty."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return ""
        return next((name for name, token in self.tokens.items() if _same(given.strip(), token)), "")


def read_secret(setting: str, path: Path | None) -> str:
    """The stripped content of a secret file, empty for None. Raises BadSecretFile if it is unreadable or empty."""
    if path is None:
        return ""
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSecretFile(f"{setting}: {path} cannot be read: {error}") from error
    if not secret:
        raise BadSecretFile(f"{setting}: {path} is empty")
    return secret


def read_operators(path: Path | None) -> Operators:
    """The lines `name:token` of the operators file. Raises BadSecretFile with the number of a bad line."""
    tokens: dict[str, str] = {}
    for number, line in enumerate(read_secret("REMEDIATOR_OPERATORS_FILE", path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, token = (part.strip() for part in line.partition(":"))
        if not (name and separator and token):
            raise BadSecretFile(f"REMEDIATOR_OPERATORS_FILE: {path}:{number} must read name:token")
        if name in tokens or token in tokens.values():
            raise BadSecretFile(f"REMEDIATOR_OPERATORS_FILE: {path}:{number}: each name and each token is one person's only")
        tokens[name] = token
    return Operators(tokens)


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode(errors="replace"))


def _decoded(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
