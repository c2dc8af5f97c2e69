"""`runs`, `pause` and `resume`, and how every command asks the running remediator over its API."""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from getpass import getuser
from http.client import HTTPException
from socket import gethostname
from typing import Any
from urllib.parse import quote, urlencode

from remediator.cli.table import table
from remediator.core.redaction import redacted

ANSWER_SECONDS = 10


class Unanswered(Exception):
    """Remediator did not do what it was asked; the text says why."""


def runs(arguments: argparse.Namespace) -> int:
    """`runs list` and `runs show`."""
    try:
        if arguments.verb == "show":
            return _show(arguments)
        query = urlencode({"limit": arguments.limit, "state": arguments.state})
        listed = ask(arguments, f"/api/v1/runs?{query}")["runs"]
    except Unanswered as error:
        return complain(error)
    if arguments.json:
        print(json.dumps(listed, indent=2))
        return 0
    rows = [
        (
            run["id"],
            f"{datetime.fromisoformat(run['created_at']):%Y-%m-%d %H:%M:%S}",
            *(run[name] for name in ("state", "reason", "playbook", "target")),
        )
        for run in listed
    ]
    print(table(("RUN", "BEGAN (UTC)", "STATE", "REASON", "PLAYBOOK", "TARGET"), rows))
    return 0


def pause(arguments: argparse.Namespace) -> int:
    """Every run waits."""
    return _throw_switch(arguments, "pause")


def resume(arguments: argparse.Namespace) -> int:
    """Runs go on."""
    return _throw_switch(arguments, "resume")


def _throw_switch(arguments: argparse.Namespace, verb: str) -> int:
    try:
        said = ask(arguments, f"/api/v1/{verb}", {"by": arguments.by or whoever(), "why": arguments.why})
    except Unanswered as error:
        return complain(error)
    print(json.dumps(said) if arguments.json else f"{verb}d by {said['by']}: {said['why']}")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    shown = ask(arguments, f"/api/v1/runs/{quote(arguments.run, safe='')}")
    if arguments.json:
        print(json.dumps(shown, indent=2))
        return 0
    print_run(shown["run"])
    print()
    for row in shown["timeline"]:
        if row["text"]:
            print(f"  {datetime.fromisoformat(row['at']):%H:%M:%S.%f}"[:14] + f"  {row['text']}")
        for command in row["data"].get("commands", ()) if row["kind"] == "decision" else ():
            print(f"{'':16}would do: {command}")
        if arguments.evidence and row["kind"] == "evidence":
            _print_evidence(row["data"]["evidence"])
    return 0


def print_run(run: Mapping[str, Any]) -> None:
    """What it is about and, if it asks people something, what."""
    labels = ", ".join(f'{name}="{value}"' for name, value in sorted(run["labels"].items()))
    print(f"run       {run['id']}  {run['state']} ({run['reason']})")
    print(f"alert     {{{labels}}}")
    print(f"playbook  {run['playbook']} (version {run['playbook_version']})")
    print(f"target    {run['target'] or 'none'}")
    if asked := run["asked"]:
        print(f"asks      plan {asked['plan']}, until {datetime.fromisoformat(asked['until']):%H:%M:%S} UTC")
        print(f"would do  {asked['command']}")


def _print_evidence(evidence: Sequence[Mapping[str, Any]]) -> None:
    for found in evidence:
        print(f"\n      --- {found['name']}")
        for line in found["text"].splitlines():
            print(f"      {line}")
    print()


def whoever() -> str:
    """An emergency stop does not fail for want of a name."""
    try:
        return f"{getuser()}@{gethostname()}"
    except (KeyError, OSError):
        return f"uid {os.getuid()}@{gethostname()}"


def ask(arguments: argparse.Namespace, path: str, body: Mapping[str, str] | None = None) -> Any:
    """The answer of the API. Raises Unanswered with its reason."""
    url = (arguments.url or _own_address()).rstrip("/")
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("REMEDIATOR_OPERATOR_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    try:
        request = urllib.request.Request(url + path, data, headers)  # noqa: S310 - the operator's own address
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:  # noqa: S310
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise Unanswered(_reason(error)) from error
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise Unanswered(f"no remediator answers at {url} ({why}); name another with --url") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"what answers at {error.url} is not a remediator (HTTP {error.code})"


def _own_address() -> str:
    host, _, port = os.environ.get("REMEDIATOR_LISTEN", ":9595").rpartition(":")
    return f"http://{host if host not in ('', '0.0.0.0', '[::]') else '127.0.0.1'}:{port}"  # noqa: S104


def complain(error: Exception) -> int:
    print(redacted(f"remediator: {error}"), file=sys.stderr)
    return 1
