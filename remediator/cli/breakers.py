"""`breaker`: which breakers are not closed, and their reset."""

import argparse
import json
from datetime import datetime

from remediator.cli.remote import Unanswered, ask, complain, whoever


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
    print(f"{'STATE':11}{'UNTIL (UTC)':21}{'OPENED':8}{'PLAYBOOK':24}TARGET")
    for each in found:
        until = f"{datetime.fromisoformat(each['open_until']):%Y-%m-%d %H:%M:%S}"
        target = each["target"] or "all of it"
        print(f"{each['state']:11}{until:21}{each['opened_times']:<8}{each['playbook']:24}{target}")
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
