"""The page about the life of a run, generated from its table: `python -m remediator.run_diagram > docs/run-life-cycle.md`."""

from remediator.core.run import ENDED, HOLDING, LIFE_CYCLE, RunEvent, RunState

HEAD = """# The life of a run

Generated from the table in `remediator/core/run.py` by `python -m remediator.run_diagram`; a test holds it against the table.

A run holds its target from its first `claim` to its end, `in_doubt` included, and `waiting` or `asked` after a `climb`,
too: nobody else acts on a target that is half repaired. Until `go` nothing has left the process, and the run may still
be withdrawn; from `go` on only an outcome or an observation says what happened. A pair of state and event that is not
below raises.
"""


def render() -> str:
    """The page as Markdown: a Mermaid diagram, and the same as a table."""
    return "\n".join([HEAD, "```mermaid", *_diagram(), "```", "", *_table(), ""])


def _diagram() -> list[str]:
    lines = ["stateDiagram-v2", f"    [*] --> {RunState.NEW}"]
    for (state, following), events in _arrows().items():
        lines.append(f"    {state} --> {following}: {' / '.join(events)}")
    return [*lines, *(f"    {state} --> [*]" for state in RunState if state in ENDED)]


def _arrows() -> dict[tuple[RunState, RunState], list[RunEvent]]:
    """The events that lead from one state to another, one arrow for all of them."""
    arrows: dict[tuple[RunState, RunState], list[RunEvent]] = {}
    for (state, event), following in LIFE_CYCLE.items():
        arrows.setdefault((state, following), []).append(event)
    return arrows


def _table() -> list[str]:
    rows = ["| state | holds its target | event → next state |", "|---|---|---|"]
    for state in RunState:
        exits = [f"{event} → {following}" for (given, event), following in LIFE_CYCLE.items() if given is state]
        rows.append(f"| {state} | {_holds(state)} | {', '.join(exits) or 'the end'} |")
    return rows


def _holds(state: RunState) -> str:
    """Only the end releases a target: who comes to a state from one that holds it, and has not ended, holds it there."""
    if state in HOLDING:
        return "yes"
    ways = [event for (given, event), following in LIFE_CYCLE.items() if following is state and given in HOLDING]
    return f"after `{'` / `'.join(ways)}`" if ways and state not in ENDED else ""


if __name__ == "__main__":
    print(render(), end="")  # noqa: T201 - its output is the page
