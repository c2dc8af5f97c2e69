"""`approve` and `reject`: answers to what a run asks. What is answered is shown, and exactly that plan is named."""

import argparse
import json
from datetime import datetime
from urllib.parse import quote

from remediator.cli.remote import Unanswered, ask, complain, print_run


def approve(arguments: argparse.Namespace) -> int:
    """Let the plan be carried out, once."""
    return _answer(arguments, "approve")


def reject(arguments: argparse.Namespace) -> int:
    """Refuse it."""
    return _answer(arguments, "reject")


def _answer(arguments: argparse.Namespace, verb: str) -> int:
    path = f"/api/v1/runs/{quote(arguments.run, safe='')}"
    try:
        run = ask(arguments, path)["run"]
        if not arguments.json:
            print_run(run)
        asked = run["asked"]
        if asked is None:
            raise Unanswered(f"run {run['id']} asks nothing now: it is {run['state']} ({run['reason']})")
        answer = {"plan": arguments.plan or asked["plan"], "why": arguments.why}
        said = ask(arguments, f"{path}/{verb}", answer | ({"by": arguments.by} if arguments.by else {}))
    except Unanswered as error:
        return complain(error)
    if arguments.json:
        print(json.dumps(said))
        return 0
    lasts = f", to be used once, until {datetime.fromisoformat(said['valid_until']):%H:%M:%S} UTC" if said["granted"] else ""
    print(f"{'approved' if said['granted'] else 'rejected'} by {said['by']}: {said['why']}{lasts}")
    return 0
