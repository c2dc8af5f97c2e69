"""Redaction: secrets are taken out of what a neighbour says before any of it is kept, shown or sent. Pure.

A secret is known by its form (`redaction_rules.py`), or by looking random: the one rule below that needs no context. It is made
so that ordinary log lines stay as they are; docs/adr/0016 says what it does not find, and why.
"""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from math import log2
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

from remediator.core.redaction_rules import REDACTED, RULES

RANDOM_CHARACTERS_MIN = 32
"""Shorter ones are identifiers: a UUID in base64 has 22 characters, a ULID 26, a KSUID and an id of Stripe 27."""
ENTROPY_BITS_MIN = 4.0
"""Shannon entropy per character. truffleHog's and detect-secrets' 4.5 for base64 is out of reach for every second random text
of 32 characters (the mean is 4.5, the standard deviation 0.1); 4.0 is for none.
"""
CHANGES_MIN = 0.4
"""Share of neighbours of different kinds (small letter, capital, digit): in random base62 it is 1 - (26² + 26² + 10²) / 62², or
0.62; in identifiers made of words it is about 0.3.
"""
ALIKE_MIN = 0.02
"""Share of capitals beside capitals, and of small letters beside small letters; each is 0.18 in random base62. Names made of
words have none of the one, base32 none of the other, hexadecimal has one of the two only.
"""

_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{RANDOM_CHARACTERS_MIN},}}={{0,2}}")
_HEX = re.compile(r"(?:0x)?[0-9A-Fa-f-]+")
_PUBLIC = re.compile(r"sha(?:1|256|384|512)-|_Z|_R")
"""Digests as in Subresource Integrity, and names as compilers mangle them (Itanium C++ ABI, Rust's v0)."""
_FINGERPRINT = "SHA256:"
"""Of a key, as OpenSSH writes it."""
_KINDS = str.maketrans(ascii_lowercase + ascii_uppercase + digits, "a" * 26 + "A" * 26 + "0" * 10, "+/_-=")


def redacted(text: str) -> str:
    """The text with `[redacted]` in place of every secret that is recognised. What is redacted already stays as it is."""
    lowered = text.lower()
    for rule in RULES:
        for hint in rule.hints:
            if hint in lowered:
                text = rule.pattern.sub(rule.replacement, text)
                break
    return _RUN.sub(_unless_readable, text)


def redacted_all(value: Any) -> Any:
    """The same of every text in a value as JSON holds it; keys stay. What JSON does not know is told as text."""
    match value:
        case bool() | int() | float() | None:
            return value
        case Mapping():
            return {key: redacted_all(each) for key, each in value.items()}
        case list() | tuple():
            return [redacted_all(each) for each in value]
        case _:
            return redacted(str(value))


def _unless_readable(run: re.Match[str]) -> str:
    """A path is looked at part by part, and so is what is not random as a whole: standard base64 has slashes, too."""
    text = run[0]
    if run.string.endswith(_FINGERPRINT, 0, run.start()) or _PUBLIC.match(text):
        return text
    is_path = text.startswith("/") or ("/" in text and not {"-", "_"}.isdisjoint(text))  # they stand for slashes in base64url
    if not is_path and _looks_random(text):
        return REDACTED
    return "/".join(REDACTED if _looks_random(part) else part for part in text.split("/"))


def _looks_random(text: str) -> bool:
    kinds = text.translate(_KINDS)
    if len(text) < RANDOM_CHARACTERS_MIN or "0" not in kinds or _HEX.fullmatch(text):
        return False
    pairs = Counter(pairwise(kinds))
    alike = min(pairs["A", "A"], pairs["a", "a"]) / pairs.total()
    changes = sum(count for (one, next_one), count in pairs.items() if one != next_one) / pairs.total()
    return alike >= ALIKE_MIN and changes >= CHANGES_MIN and _entropy(text) >= ENTROPY_BITS_MIN


def _entropy(text: str) -> float:
    """Shannon entropy in bits per character."""
    return -sum(count / len(text) * log2(count / len(text)) for count in Counter(text).values())
