"""Platforms: where workloads live. `docker`, `kubernetes` and `command` read; the writing sides are built only to act.

Every platform keeps the contract of `tests/contracts/test_platforms.py`. Nothing here is imported before it is needed.
What they share stands below: text that is safe to show, what a command came to, what `*` means in `remediator.io/allow`, and
the last look before something is sent.
"""

import re
from collections.abc import Callable

from remediator.core.redaction import redacted
from remediator.core.step import STEPS, Exec
from remediator.core.step_parts import Risk
from remediator.ports import Evidence, PermanentError, TransientError

MaySend = Callable[[], bool]
"""Whether this process may still act for the runs that it holds (`leases.py`): it may have been stopped while it connected."""

TEXT_MAX = 16 * 1024
"""Characters of evidence kept: enough for a person, small enough for a ledger row and a chat message's attachment."""
LOOKED_AT_MAX = 8 * TEXT_MAX

# CSI and OSC sequences, then every other control character but tab and newline, and the marks that reorder text.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def readable(raw: bytes | str, at_most: int = TEXT_MAX) -> str:
    """Text of a workload made safe to show: valid, without control characters, and only the last `at_most` characters.

    Secrets go before it is cut, because half a secret would not be recognised: of a longer text than `LOOKED_AT_MAX`, the rest.
    """
    unseen, raw = max(0, len(raw) - LOOKED_AT_MAX), raw[-LOOKED_AT_MAX:]
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    text = redacted(_CONTROL.sub("", _ANSI.sub("", text.replace("\r\n", "\n")))).rstrip()
    left_out = unseen + max(0, len(text) - at_most)
    return f"[{left_out} characters before this left out]\n{text[-at_most:]}" if left_out else text


def exec_said(name: str, code: int, output: str) -> str:
    """What the step `exec` in the instance `name` came to. Raises PermanentError if the command failed."""
    if code != 0:
        raise PermanentError(f"the command in {name} exited with {code}: {readable(output, 500)}")
    return f"the command in {name} exited with 0"


def exec_evidence(name: str, code: int, output: str) -> Evidence:
    """The same as a diagnosis: its exit code is the number `exec.exit_code`."""
    return Evidence(Exec.name, readable(f"in {name}, exit code {code}\n{output}"), {"exec.exit_code": float(code)})


def expanded(allow: frozenset[str]) -> frozenset[str]:
    """`*` spelled out: the name of every step that is not destructive, beside the `*` itself."""
    return allow | {step.name for step in STEPS if step.risk is not Risk.DESTRUCTIVE} if "*" in allow else allow


def always() -> bool:
    """For who acts alone, as tests do."""
    return True


def ensure_may_send(may_send: MaySend) -> None:
    """To be called when a call is ready, right before its first byte leaves. Raises TransientError."""
    if not may_send():
        raise TransientError("not sent: it had waited for so long that another process may have taken over")
