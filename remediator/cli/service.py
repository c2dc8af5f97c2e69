"""`serve` and `migrate`."""

import argparse
import asyncio
import os
import sys

from remediator.app import BadConfiguration, store_address, usable
from remediator.app import serve as serve_until_stopped
from remediator.core.redaction import redacted
from remediator.extensions.connect import BadExtension
from remediator.ingress.auth import BadSecretFile
from remediator.logs import make_log, quiet_libraries
from remediator.settings import load_settings
from remediator.storage.migrate import HEAD, SchemaTooNew, upgrade
from remediator.storage.sqlite import StoreInUse
from remediator.yaml_lines import FileProblem

CANNOT_START = (BadConfiguration, BadExtension, BadSecretFile, FileProblem, StoreInUse, SchemaTooNew)


def serve(_arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM. 2 if it cannot start, with what to change."""
    try:
        settings = load_settings(os.environ)
        quiet_libraries()
        asyncio.run(serve_until_stopped(settings, make_log(settings.log_format, settings.log_level)))
    except CANNOT_START as error:
        return complain(error)
    return 0


def migrate(_arguments: argparse.Namespace) -> int:
    """Bring the schema up to date."""
    try:
        address = store_address(load_settings(os.environ))
        with usable(address):
            before = upgrade(address)
    except CANNOT_START as error:
        return complain(error)
    print(f"the schema is {HEAD}" + ("" if before == HEAD else f"; it was {before or 'not there'}"))
    return 0


def complain(error: Exception) -> int:
    """Say what is wrong, and that it was the caller's to get right."""
    print(redacted(f"remediator: {error}"), file=sys.stderr)
    return 2
