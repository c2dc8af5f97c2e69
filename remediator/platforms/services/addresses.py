"""Where services answer, by name, as the configuration says; `file:` addresses are read again at every use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from remediator.core.target import Selection, Workload
from remediator.ports import PermanentError
from remediator.settings import ServiceEndpoints

Kind = Literal["http", "tcp", "redis", "postgres", "kafka"]
Services = Mapping[str, ServiceEndpoints]

FILE = "file:"


class NotConfigured(PermanentError):
    """There is no usable address under this name. The message says what to write."""


def address_of(services: Services, kind: Kind, name: str) -> str:
    """The address of `kind` that is configured for service `name`. Raises NotConfigured."""
    if not name:
        raise NotConfigured(f"the target names no service, so there is no {kind} address to ask")
    address: str = getattr(services.get(name), kind, "")
    if not address:
        raise NotConfigured(f"no {kind} address is configured for service {name!r}; add services.{name}.{kind}")
    if not address.startswith(FILE):
        return address
    try:
        # Read at use, so that a rotated secret needs no restart. A line of a local file: no reason to leave the loop.
        return Path(address.removeprefix(FILE)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotConfigured(f"services.{name}.{kind} names a file that cannot be read: {error}") from error


def find_configured(services: Services, platform: Kind, kind: str, selection: Selection) -> Sequence[Workload]:
    """The workload that `{kind: NAME}` selects, if NAME has an address of this platform; other fields select nothing."""
    if set(selection.fields) != {kind}:
        return ()
    name = selection.fields[kind]
    endpoints = services.get(name)
    if endpoints is None or not getattr(endpoints, platform):
        return ()
    return (Workload(platform=platform, kind=kind, name=name, service=name, allow=endpoints.allow),)
