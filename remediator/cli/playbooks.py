"""`check` and `schema`."""

import argparse
import json
import os
from datetime import datetime
from pathlib import Path

from remediator.app import effective_policy
from remediator.cli.service import CANNOT_START, complain
from remediator.clock import SystemClock
from remediator.core.maintenance import Window
from remediator.core.modes import effective_mode
from remediator.core.playbook import Playbook
from remediator.core.snapshot import Policy
from remediator.extensions.connect import unknown
from remediator.extensions.installed import Added, installed
from remediator.gaps import unconfigured, unworkable
from remediator.ingress.auth import read_operators, read_secret
from remediator.lab.playbook_tests.files import json_schema as cases_schema
from remediator.playbook_files import effective_limits, json_schema
from remediator.services_file import json_schema as services_schema
from remediator.settings import load_settings
from remediator.shelf import read_files
from remediator.yaml_lines import FileProblem


def check(arguments: argparse.Namespace) -> int:
    """Print what is wrong (1), or the effective modes and limits of every playbook (0)."""
    try:
        settings = load_settings(os.environ)
        for name in ("webhook_token_file", "webhook_basic_file", "grafana_token_file", "escalation_token_file"):
            read_secret(f"REMEDIATOR_{name.upper()}", getattr(settings, name))
        read_operators(settings.operators_file)
    except CANNOT_START as error:
        complain(error)
        return 1
    try:
        if arguments.directory:
            settings = settings.model_copy(update={"playbooks": Path(arguments.directory)})
        files = read_files(settings)
    except FileProblem as error:
        for problem in error.problems:
            print(problem)
        return 1
    policy, playbooks = effective_policy(settings), files.playbooks
    no_playbooks = sorted(settings.playbook_modes.keys() - {playbook.name for playbook in playbooks})
    for name in no_playbooks:
        print(f"REMEDIATOR_PLAYBOOK_MODES: there is no playbook {name}")
    strangers = list(unknown(settings.extensions, installed()))
    for stranger in strangers:
        print(stranger)
    for playbook in playbooks:
        _show(playbook, policy)
    for each in installed().added:
        print(added(each, is_configured=each.name in settings.extensions))
    for window in files.windows:
        print(f"maintenance {planned(window, SystemClock().now())}")
    for service, needed in files.dependencies.needs.items():
        if needed:
            print(f"service {service} needs {', '.join(sorted(needed))}")
    if not settings.webhook_is_authenticated:
        print("the webhook is not authenticated: the mode stays at suggest (REMEDIATOR_WEBHOOK_TOKEN_FILE)")
    for gap in (*unconfigured(settings), *unworkable(playbooks, settings)):
        print(gap)
    print(f"{len(playbooks)} playbook{'s are' if len(playbooks) != 1 else ' is'} fine")
    return 1 if no_playbooks or strangers else 0


def schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of one kind of file; 2 if an installed extension cannot be used."""
    schemas = {"playbook": json_schema, "cases": cases_schema, "services": services_schema}
    try:
        printed = schemas[arguments.of]()
    except FileProblem as error:
        return complain(error)
    print(json.dumps(printed, indent=2))
    return 0


def added(each: Added, *, is_configured: bool) -> str:
    """An installed extension as a person checks it."""
    words = ", ".join(dict.fromkeys(kind.name for kind in each.kinds)) or "no steps of its own"
    state = "" if is_configured else f"; off: extensions.{each.name} does not stand in the configuration file"
    return f"extension {each.name} ({each.package}): {words}{state}"


def planned(window: Window, now: datetime) -> str:
    """A window as a person checks it: what it is about, whom to ask, and whether it is forgotten."""
    about = ", ".join(map(str, window.matchers))
    if window.within.ends_at <= now:
        state = f"over since {window.within.ends_at:%Y-%m-%d %H:%M} UTC: remove it"
    else:
        end = "it never ends" if window.is_endless else f"until {window.within.ends_at:%Y-%m-%d %H:%M} UTC"
        state = f"{'in force now' if window.contains(now) else 'planned'}; {end}"
    return f"{window.name} ({window.who}): {about}: {state}"


def _show(playbook: Playbook, policy: Policy) -> None:
    print(f"{playbook.name}: {playbook.summary}")
    for number, rung in enumerate(playbook.ladder, start=1):
        mode, why = effective_mode(playbook.name, playbook.mode, rung.step, policy)
        condition = f", when {rung.when}" if rung.when else ""
        approval = ", approval required" if rung.approval_required else ""
        print(f"  step {number}: {rung.step.name} ({rung.step.risk}{condition}{approval}): {mode} ({why})")
    for name, value in effective_limits(playbook):
        print(f"  {name}: {value}")
