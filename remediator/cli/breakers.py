"""`breaker`: which breakers are not closed, and their reset."""

import argparse
import json
from datetime import datetime

from remediator.cli.remote import Unanswered, ask, complain, whoever
from remediator.cli.table import table


def breaker(arguments: argparse.Namespace) -> int:
    """`breaker list` and `breaker reset`."""
    try:
        return _reset(arguments) if arguments.verb == "reset" else _list(arguments)
    except Unanswered as error:
        return complain(error)


def _list(arguments: argparse.Namespace) -> int:
    found = ask(arguments, "/api/v1/breakers")["breakers"]
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [
        (
            each["state"],
            f"{datetime.fromisoformat(each['open_until']):%Y-%m-%d %H:%M:%S}",
            str(each["opened_times"]),
            each["playbook"],
            each["target"] or "all of it",
        )
        for each in found
    ]
    print(table(("STATE", "UNTIL (UTC)", "OPENED", "PLAYBOOK", "TARGET"), rows))
    return 0


def _reset(arguments: argparse.Namespace) -> int:
    which = {"target": arguments.target} if arguments.target else {"playbook": arguments.playbook}
    said = ask(arguments, "/api/v1/breaker/reset", which | {"by": arguments.by or whoever(), "why": arguments.why})
    if arguments.json:
        print(json.dumps(said))
        return 0
    ((kind, name),) = which.items()
    print(f"the breaker of {kind} {name} was reset by {said['by']}: {said['why']}")
    if said["begun"]:
        print(f"{said['begun']} alerts that it had left to people still fire and are taken up again")
    return 0
