"""The table: a line for each figure, with its target where the project has set one."""

from collections.abc import Sequence
from dataclasses import dataclass

COLUMNS = ("", "remediator", "floor", "ratio", "p50 ms", "p99 ms", "target", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. Texts are shown as they stand; `met` is None where there is nothing to reach."""

    name: str
    value: str = ""
    floor: str = ""
    ratio: str = ""
    p50: str = ""
    p99: str = ""
    target: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {True: "ok", False: "MISSED", None: ""}[self.met]
        return (self.name, self.value, self.floor, self.ratio, self.p50, self.p99, self.target, verdict)


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table, aligned for reading as plain text."""
    rows = [COLUMNS, *(figure.cells for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "| " + " | ".join([name.strip().ljust(widths[0]), *others]) + " |"
