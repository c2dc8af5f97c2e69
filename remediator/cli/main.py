"""The parser: every command with an example, and the function that carries it out."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from remediator import __version__

OPERATOR = "an operator's token is read from REMEDIATOR_OPERATOR_TOKEN"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    arguments = parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = getattr(import_module(arguments.module), arguments.function)
    try:
        return command(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="remediator", description="Guarded remediation for Prometheus alerts.")
    top.add_argument("--version", action="version", version=f"remediator {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, what: str, example: str, function: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=what,
            description=what,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module, _, attribute = function.partition(":")
        added.set_defaults(module=f"remediator.cli.{module}", function=attribute)
        return added

    command("serve", "Receive alerts and act on them.", "REMEDIATOR_MODE=suggest remediator serve", "service:serve")

    check = command("check", "Check settings and playbooks.", "remediator check playbooks/", "playbooks:check")
    check.add_argument("directory", nargs="?", help="the playbooks; by default those of REMEDIATOR_PLAYBOOKS")

    test = command(
        "test",
        "Play the cases of playbooks, and show what is not as expected.",
        "remediator test playbooks/ --only cooldown",
        "playbook_tests:test",
    )
    test.add_argument(
        "paths", nargs="*", help="directories of playbooks or *.cases.yaml files; by default that of REMEDIATOR_PLAYBOOKS"
    )
    test.add_argument("--only", metavar="TEXT", default="", help="only cases with this in their name")

    rules = command(
        "rules",
        "Print Prometheus rules for the services of a file.",
        "remediator rules services.yaml --output rules/services.rules.yaml",
        "rules:rules",
    )
    rules.add_argument("services", nargs="?", help="the services; by default those of REMEDIATOR_SERVICES_FILE")
    rules.add_argument("--output", metavar="FILE", default="", help="write them there, once everything is right")

    explain = command(
        "explain",
        "Show what would be decided about an alert, guard by guard.",
        "remediator explain alert.json",
        "explain:explain",
    )
    explain.add_argument("file", help="a webhook message or one alert as JSON; - for standard input")

    runs = command("runs", "List runs, or show one with its timeline.", "remediator runs show 01k2m9q7v4xab", "remote:runs")
    shown = runs.add_subparsers(metavar="list|show", required=True, dest="verb")
    listed = shown.add_parser("list", help="runs, the newest first")
    listed.add_argument("--state", default="", help="only runs in this state, for instance escalated")
    listed.add_argument("--limit", type=int, default=20)
    one = shown.add_parser("show", help="one run and its timeline")
    one.add_argument("run", help="the run's id, as `runs list` prints it")
    one.add_argument("--evidence", action="store_true", help="with everything that was gathered before the change")
    for each in (listed, one):
        _remote(each)

    for name, what, why in (
        ("pause", "Stop acting: every run waits.", "database migration"),
        ("resume", "Go on acting.", "migration done"),
    ):
        switch = command(name, what, f'remediator {name} --by ann --why "{why}"', f"remote:{name}")
        switch.add_argument("--why", required=True, help="for the record")
        switch.add_argument("--by", default="", help="who; by default whoever is logged in")
        _remote(switch)

    for name, what, why in (
        ("approve", "Let what a run asks about be done, once.", "the cache can be filled again"),
        ("reject", "Refuse what a run asks about.", "it would lose the carts"),
    ):
        answer = command(name, what, f'remediator {name} 01k2m9q7v4xab --by ann --why "{why}"', f"answers:{name}")
        answer.add_argument("run", help="the run's id, as `runs list --state asked` prints it")
        answer.add_argument("--why", required=True, help="for the record")
        answer.add_argument("--by", default="", help="who; must be the name of the token in REMEDIATOR_OPERATOR_TOKEN")
        answer.add_argument("--plan", default="", help="only if it still asks about this plan; by default what it asks now")
        _remote(answer)

    example = 'remediator breaker reset --target docker:container/shop-api-1 --by ann --why "disk replaced"'
    breaker = command("breaker", "List breakers that are not closed, or reset one.", example, "breakers:breaker")
    verbs = breaker.add_subparsers(metavar="list|reset", required=True, dest="verb")
    reset = verbs.add_parser("reset", help="close one; the limits of rate stay as they are")
    which = reset.add_mutually_exclusive_group(required=True)
    which.add_argument("--target", default="", help="the breaker of this target, as `breaker list` prints it")
    which.add_argument("--playbook", default="", help="the breaker of this playbook as a whole")
    reset.add_argument("--why", required=True, help="for the record")
    reset.add_argument("--by", default="", help="who; by default whoever is logged in")
    for each in (verbs.add_parser("list", help="those that are open, or half-open with one trial to come"), reset):
        _remote(each)

    schema = command(
        "schema",
        "Print the JSON Schema of playbooks, of their cases or of services, for editors.",
        "remediator schema > playbook.schema.json",
        "playbooks:schema",
    )
    schema.add_argument("of", nargs="?", choices=("playbook", "cases", "services"), default="playbook", help="which file")
    command("migrate", "Bring the store's schema up to date.", "remediator migrate", "service:migrate")

    demo = command("demo", "Break a small service and watch it being repaired.", "remediator demo --keep", "demo:demo")
    demo.add_argument("--keep", action="store_true", help="leave everything running and print the addresses")
    return top


def _remote(command: argparse.ArgumentParser) -> None:
    command.add_argument("--url", default="", help=f"a running remediator; by default the one on REMEDIATOR_LISTEN; {OPERATOR}")
    command.add_argument("--json", action="store_true", help="print JSON")
