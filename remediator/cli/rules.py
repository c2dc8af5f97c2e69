"""`rules`: Prometheus rules for the services that a file names."""

import argparse
import os
import sys
from pathlib import Path

from remediator.cli.service import CANNOT_START, complain
from remediator.rules.document import rule_file
from remediator.services_file import load_services
from remediator.settings import load_settings


def rules(arguments: argparse.Namespace) -> int:
    """0: they are printed, or written. 2: a file cannot be used, and nothing was written."""
    try:
        path = Path(arguments.services) if arguments.services else load_settings(os.environ).services_file
        if path is None:
            print("remediator: no services file; name one, or set REMEDIATOR_SERVICES_FILE", file=sys.stderr)
            return 2
        text = rule_file(load_services(path))
        if arguments.output:
            _replace(Path(arguments.output), text)
        else:
            print(text, end="")
    except (*CANNOT_START, OSError) as error:
        return complain(error)
    return 0


def _replace(path: Path, text: str) -> None:
    """At once or not at all: Prometheus may read the file at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
