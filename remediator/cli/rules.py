"""`rules`: Prometheus rules for the services that a file names."""

import argparse
from pathlib import Path

from remediator.cli.service import complain
from remediator.rules.document import rule_file
from remediator.services_file import load_services
from remediator.yaml_lines import FileProblem


def rules(arguments: argparse.Namespace) -> int:
    """0: they are printed, or written. 2: a file cannot be used, and nothing was written."""
    try:
        text = rule_file(load_services(Path(arguments.services)))
        if arguments.output:
            _replace(Path(arguments.output), text)
        else:
            print(text, end="")
    except (FileProblem, OSError) as error:
        return complain(error)
    return 0


def _replace(path: Path, text: str) -> None:
    """At once or not at all: Prometheus may read the file at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
