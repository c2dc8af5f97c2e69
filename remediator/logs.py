"""How log events are written: JSON lines by default, readable ones on a terminal. No global logger: `make_log` returns one."""

import logging
import sys
from typing import Any, TextIO, cast

import structlog

from remediator.telemetry import Log

VALUE_CHARACTERS_MAX = 2_000


def make_log(form: str, level: str, stream: TextIO = sys.stderr) -> Log:
    """A logger. `form` is `json`, `console`, or `auto`: console if `stream` is a terminal."""
    readable = form == "console" or (form == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty()) if readable else structlog.processors.JSONRenderer(default=str)
    )
    processors = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _bounded,
        *([] if readable else [structlog.processors.format_exc_info]),
        renderer,
    ]
    wrapper = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])
    logger = structlog.wrap_logger(structlog.WriteLogger(stream), processors=processors, wrapper_class=wrapper)
    return cast(Log, logger)


def quiet_libraries(stream: TextIO = sys.stderr) -> None:
    """What libraries log through the standard library goes to the same place, from warnings up."""
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _bounded(_logger: Any, _name: str, event: Any) -> Any:
    """Nothing that a neighbour says makes a log line without end."""
    for key, value in event.items():
        if isinstance(value, str) and len(value) > VALUE_CHARACTERS_MAX:
            event[key] = value[:VALUE_CHARACTERS_MAX] + "…"
    return event
