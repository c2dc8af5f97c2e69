"""The story of a case: the rows of the ledger and the messages to people, a line for each that people care about.

    wait REASON [until TIME]      the decision is to wait; the end is named where only time decides
    ask COMMAND                   people are asked for their approval
    suggest COMMAND, COMMAND      what a person could do; nothing is done
    COMMAND OUTCOME               a call: done, failed, in_doubt or not_sent; the line stands where it was sent
    observed ANSWER               whether a call in doubt happened: yes, no or unknown
    verification OUTCOME          failed or unverified; of a verified step tells its run's end
    STATE REASON                  the run has ended: succeeded, cancelled, refused or escalated
    tell WHOM REASON              people get a message
    answer not_taken              a person's answer came to nothing: nothing was asked, or something else

Lines about another alert than the case's own end in `for NAME`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from remediator.core.playbook import brief
from remediator.core.run import ENDED, RunState
from remediator.core.verdict import DecisionKind, Reason
from remediator.extensions.installed import steps
from remediator.lab.playbook_tests.case import Line, Outcome
from remediator.ports import Happened, LedgerKind, LedgerRow, Message
from remediator.yaml_lines import instead, shown

NOBODY_IN_PARTICULAR = "people"
END_IS_KNOWN = frozenset({Reason.SETTLING, Reason.COOLDOWN, Reason.RATE_TARGET, Reason.RATE_PLAYBOOK, Reason.RATE_GLOBAL})
"""Waits that only time ends. The others look again now and then, which says nothing about when they will end."""
ENDINGS = frozenset(ENDED - {RunState.SUGGESTED})

# --- What was expected ------------------------------------------------------------------------------------------------

_FIRST = ("answer", "wait", "ask", "suggest", "observed", "verification", "tell", *map(str, ENDINGS))
_DURATION = r"(?:\d+(?:ms|s|m|h|d))+"


def sentence_of(text: str) -> str:
    """An expected line, without needless blanks. Raises ValueError with what to write instead."""
    text = " ".join(text.split())
    about = re.sub(r" for [A-Za-z][A-Za-z0-9_-]*$", "", text)
    first, *rest = about.split(" ")
    match first, rest:
        case "wait", [reason, *until]:
            _one_of(reason, Reason, text)
            if until and not re.fullmatch(f"until {_DURATION}", " ".join(until)):
                raise ValueError(f"{shown(text)} is not understood; write it as: wait settling until 30s")
        case "tell", [_, *_, reason]:
            _one_of(reason, [*Reason, "over"], text)
        case "answer", [outcome]:
            _one_of(outcome, ["not_taken"], text)
        case "observed", [answer]:
            _one_of(answer, Happened, text)
        case "verification", [outcome]:
            _one_of(outcome, ["failed", "unverified"], text)
        case (("ask" | "suggest"), [step, *_]):
            _one_of(step, _STEP_NAMES, text)
        case ending, [reason] if ending in ENDINGS:
            _one_of(reason, Reason, text)
        case step, [*_, outcome] if step in _STEP_NAMES:
            _one_of(outcome, Outcome, text)
        case _:
            raise ValueError(f"{shown(text)} is not a line of a story; {instead(first, [*_FIRST, *_STEP_NAMES])}")
    return text


_STEP_NAMES = [step.name for step in steps()]


def _one_of(word: str, allowed: Iterable[str], text: str) -> None:
    words = [str(each) for each in allowed]
    if word not in words:
        raise ValueError(f"{shown(word)} in {shown(text)} is not a word that stands there; {instead(word, words)}")


# --- What happened ----------------------------------------------------------------------------------------------------


def clock_time(since_start: timedelta) -> timedelta:
    """To whole seconds: looks at a target are a few seconds apart, and nobody means their fractions."""
    return timedelta(seconds=round(since_start.total_seconds()))


def of_run(rows: Sequence[LedgerRow], began_at: datetime, suffix: str) -> Iterator[tuple[datetime, Line]]:
    """The lines of one run's timeline, each with its exact time."""
    command, gone_at = "", began_at
    for row in rows:
        match row.kind:
            case LedgerKind.INTENT:
                command = row.data["command"]
            case LedgerKind.GO:
                gone_at = row.at
            case LedgerKind.OUTCOME:
                yield gone_at, _line(gone_at - began_at, f"{command} {row.data['outcome']}{suffix}", row.data["said"])
            case _:
                if text := _said(row, began_at):
                    yield row.at, _line(row.at - began_at, text + suffix, row.data.get("seen", ""))


def _line(at: timedelta, text: str, seen: str) -> Line:
    return Line(clock_time(at), text, seen)


def _said(row: LedgerRow, began_at: datetime) -> str:
    """Empty for what another row tells, or nobody needs."""
    data: Mapping[str, Any] = row.data
    match row.kind:
        case LedgerKind.DECISION if data["decision"] == DecisionKind.WAIT:
            until = f" until {_until(data, began_at)}" if data["reason"] in END_IS_KNOWN else ""
            return f"wait {data['reason']}{until}"
        case LedgerKind.DECISION if data["decision"] == DecisionKind.SUGGEST:
            return f"suggest {', '.join(data.get('commands', ()))}"
        case LedgerKind.ASK:
            return f"ask {data['command']}"
        case LedgerKind.OBSERVATION:
            return f"observed {data['happened']}"
        case LedgerKind.VERIFICATION if data["outcome"] != "verified":
            return f"verification {data['outcome']}"
        case LedgerKind.END if data["state"] in ENDINGS:
            return f"{data['state']} {data['reason']}"
        case _:
            return ""


def _until(data: Mapping[str, Any], began_at: datetime) -> str:
    return brief(clock_time(datetime.fromisoformat(data["until"]) - began_at))


def of_message(message: Message, at: timedelta, suffix: str) -> Line:
    """The line of a message to people."""
    told = message.payload
    whom = told.get("escalate_to") or NOBODY_IN_PARTICULAR
    over = " over" if told.get("over_at") else ""
    return _line(at, f"tell {whom} {told['reason']}{over}{suffix}", told["summary"])


def of_answer(at: timedelta, suffix: str, objection: str) -> Line:
    """The line of an answer that was not taken."""
    return _line(at, f"answer not_taken{suffix}", objection)
