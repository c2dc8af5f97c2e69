"""How log events are written: JSON lines by default, readable ones on a terminal. No global logger: `make_log` returns one.

Secrets are taken out of everything that is written, tracebacks and the lines of libraries included.
"""

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from remediator.core.redaction import redacted, redacted_all
from remediator.telemetry import Log

VALUE_CHARACTERS_MAX = 2_000


def make_log(form: str, level: str, stream: TextIO = sys.stderr) -> Log:
    """A logger. `form` is `json`, `console`, or `auto`: console if `stream` is a terminal."""
    readable = form == "console" or (form == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer(default=str)
    )
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _discreet,
        _bounded,
        renderer,
    ]
    wrapper = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])
    logger = structlog.wrap_logger(structlog.WriteLogger(stream), processors=processors, wrapper_class=wrapper)
    return cast(Log, logger)


def quiet_libraries(stream: TextIO = sys.stderr) -> None:
    """What libraries log through the standard library goes to the same place, from warnings up."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Discreet("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


class _Discreet(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def _discreet(_logger: Any, _name: str, event: Any) -> Any:
    """One look at all texts together finds that there is nothing, as nearly always."""
    told = "\n".join(map(str, event.values()))
    return event if redacted(told) == told else redacted_all(event)


def _bounded(_logger: Any, _name: str, event: Any) -> Any:
    """Nothing that a neighbour says makes a log line without end."""
    for key, value in event.items():
        if key != "exception" and isinstance(value, str) and len(value) > VALUE_CHARACTERS_MAX:
            event[key] = value[:VALUE_CHARACTERS_MAX] + "…"
    return event
