"""Alertmanager's label matchers (`name = value`, `!=`, `=~`, `!~`) as data and as a predicate."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

_MATCHER = re.compile(
    r"""\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"',{}]*))\s*"""
)


class MatchOp(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One matcher. A missing label counts as the empty string, as in Alertmanager."""

    label: str
    op: MatchOp
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.label, "")
        match self.op:
            case MatchOp.EQUAL:
                return value == self.value
            case MatchOp.NOT_EQUAL:
                return value != self.value
            case MatchOp.REGEX:
                return _compiled(self.value).fullmatch(value) is not None
            case MatchOp.NOT_REGEX:
                return _compiled(self.value).fullmatch(value) is None

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.op}"{escaped}"'


def parse_matcher(text: str) -> Matcher:
    """Parse one matcher in Alertmanager's syntax. Raises ValueError with what to write instead."""
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r} is not a matcher; write one as: alertname = RedisDown, or severity =~ "critical|page"')
    value = _unescaped(found["bare"] if found["quoted"] is None else found["quoted"])
    matcher = Matcher(found["label"], MatchOp(found["op"]), value)
    if matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX):
        try:
            _compiled(value)
        except (re.error, OverflowError, RecursionError, FutureWarning) as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from error
    return matcher


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """A list of matchers is an AND, as in Alertmanager's `matchers:`."""
    return all(matcher.matches(labels) for matcher in matchers)


def _unescaped(value: str) -> str:
    """As Alertmanager does: a backslash escapes itself, `"` and `n`; before anything else it is one (`db\\.shop`)."""
    return re.sub(r"""\\([\\"n])""", lambda found: "\n" if found[1] == "n" else found[1], value)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Anchored by `fullmatch`, like Alertmanager's. RE2 and `re` agree on what both accept, but for Unicode classes."""
    return re.compile(pattern)
