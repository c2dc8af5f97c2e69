"""From messages in the inbox to episodes, and from episodes to runs: one batch, in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from remediator.core.alert import WATCHDOG, Alert, AlertStatus, Episode, Heard
from remediator.core.playbook import Playbook, PlaybookIndex
from remediator.core.run import End, RunState
from remediator.core.snapshot import Storm
from remediator.core.template import Unbound
from remediator.core.verdict import Reason
from remediator.ingress.payload import NotAMessage, parse
from remediator.ports import Inbound, Ledger, PlaybookText

MESSAGES_MAX = 32
NewRun = Callable[[], str]
DUPLICATES_LAST = timedelta(minutes=1)
"""A pair of Alertmanagers and its retries repeat a message for about so long, whatever limits a playbook sets to nothing."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How an episode becomes a run: by the first playbook that matches it, under a new id."""

    playbooks: PlaybookIndex
    new_run: NewRun

    def admit(self, ledger: Ledger, episode: Episode, at: datetime) -> bool:
        """Begin a run, unless one is under way; False, and on record, if no playbook matches."""
        playbook = self.playbooks.find(episode.labels)
        if playbook is None:
            ledger.runs.unmatched(episode, at)
            return False
        text = PlaybookText(playbook.name, playbook.version, playbook.source)
        aimed = playbook.target.bind(episode.labels)
        aim = "" if isinstance(aimed, Unbound) else str(aimed)
        ledger.runs.admit(self.new_run(), episode, text, at, at + playbook.limits.give_up, aim)
        return True


@dataclass(frozen=True, slots=True)
class Recovery:
    """An episode that is over: the playbook of its last run, whether remediator acted, seconds from its opening."""

    playbook: str
    acted: bool
    seconds: float


def recovery(ledger: Ledger, episode: Episode, at: datetime) -> Recovery:
    """What is told of an episode that has just been closed."""
    last = ledger.runs.last_of(episode.id)
    acted = last is not None and (last.goes > 0 or last.rung > 0)
    return Recovery(last.playbook if last else "", acted, (at - episode.opened_at).total_seconds())


@dataclass(slots=True)
class Expanded:
    """What a batch came to. It is told (metrics, logs) only when its transaction is durable."""

    messages: int = 0
    alerts: int = 0
    unmatched: int = 0
    unreadable: int = 0
    elsewhere: bool = False
    """Another process is at it: nothing was done here."""
    watchdog_at: datetime | None = None
    """When the always firing alert was last heard, if it was."""
    storm: Storm | None = None
    """A storm of alerts that has just begun or ended."""
    recoveries: list[Recovery] = field(default_factory=list)

    is_full: bool = False
    """Whether there may be more."""


def expand(
    ledger: Ledger, playbooks: PlaybookIndex, new_id: Callable[[datetime], str], now: datetime, messages_max: int = MESSAGES_MAX
) -> Expanded:
    """Expand the oldest messages, as many as fit one batch, and remove them."""
    if not ledger.inbox.reserve():
        return Expanded(elsewhere=True)
    admission = Admission(playbooks, partial(new_id, now))
    done = Expanded()
    taken: list[Inbound] = []
    batch: list[tuple[Alert, datetime]] = []
    for message in ledger.inbox.take(messages_max):
        batch += [(alert, message.received_at) for alert in _alerts_of(message, done)]
        taken.append(message)
        if len(batch) >= ledger.inbox.alerts_at_once:
            break
    done.alerts = len(batch)
    done.is_full = len(taken) >= messages_max or done.alerts >= ledger.inbox.alerts_at_once
    alerts = [(alert, at) for alert, at in batch if not _is_watchdog(alert, at, done)]
    for (_, at), (heard, episode) in zip(alerts, ledger.episodes.hear_all(alerts), strict=True):
        if episode is not None:
            _follow(ledger, heard, episode, at, admission, done)
    ledger.inbox.remove(taken)
    if done.watchdog_at is not None:
        ledger.heartbeats.beat(WATCHDOG, done.watchdog_at)
    done.storm = ledger.storms.look(now)
    done.messages = len(taken)
    return done


def _alerts_of(message: Inbound, done: Expanded) -> Sequence[Alert]:
    """It was read before it was stored; an upgrade may have become stricter since, and must not stand still over it."""
    try:
        return parse(message.body).alerts
    except NotAMessage:
        done.unreadable += 1
        return ()


def _is_watchdog(alert: Alert, at: datetime, done: Expanded) -> bool:
    """The always firing alert is no episode; when it was heard is remembered."""
    if alert.labels.get("alertname") != WATCHDOG:
        return False
    done.watchdog_at = at if alert.status is AlertStatus.FIRING else done.watchdog_at
    return True


def _follow(ledger: Ledger, heard: Heard, episode: Episode, at: datetime, admission: Admission, done: Expanded) -> None:
    match heard:
        case Heard.OPENED | Heard.LATE | Heard.CONFIRMED | Heard.CONTINUED:
            done.unmatched += not admission.admit(ledger, episode, at)
        case Heard.REFRESHED:
            playbook = admission.playbooks.find(episode.labels)
            if playbook is not None and _is_news(ledger.runs.last_end(episode.id), playbook, at):
                admission.admit(ledger, episode, at)
        case Heard.CLOSED:
            done.recoveries.append(recovery(ledger, episode, at))


def _is_news(last: End | None, playbook: Playbook, at: datetime) -> bool:
    """Whether it says something new of an alert that one more message is heard of, after its last run ended so."""
    if last is None:
        return False
    if last.state is RunState.SUCCEEDED:  # if that is long enough ago, it fires still or again: what was done did not last
        return last.at <= at - _patience(playbook)
    return (last.state, last.reason) == (RunState.CANCELLED, Reason.STALE)


def _patience(playbook: Playbook) -> timedelta:
    """How long after a repair a repetition is no news: duplicates of a pair, and a resolve that waits for `group_interval`."""
    return max(playbook.limits.cooldown, playbook.limits.breaker.min_healthy_period, DUPLICATES_LAST)
