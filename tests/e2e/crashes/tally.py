"""What the rounds of a crash test came to: only counted here, judged elsewhere."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from statistics import median


@dataclass(slots=True)
class Tally:
    """Of one lane, or of all of them together."""

    rounds: int = 0
    alerts: int = 0
    accepted: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """SIGKILLs by what was aimed at."""
    others: Counter[str] = field(default_factory=Counter)
    """What else was done to it."""
    hit: Counter[str] = field(default_factory=Counter)
    """Runs by the state in which a SIGKILL met them; `called` is between go and outcome."""
    unread: int = 0
    """Messages that a SIGKILL met between their 200 and the run."""
    answers: Counter[int] = field(default_factory=Counter)
    """Messages by the answer; 0 is none."""
    observed: Counter[str] = field(default_factory=Counter)
    """What was found out about steps in doubt."""
    taken_over: Counter[str] = field(default_factory=Counter)
    """Runs of a dead or stopped replica that a living one took over, by their state."""
    takeovers: list[float] = field(default_factory=list)
    """Seconds from a SIGKILL until another replica held what the dead one had held."""
    withheld: int = 0
    """Calls that were fit to be sent before a SIGSTOP, and were not sent after it."""
    goes: Counter[int] = field(default_factory=Counter)
    restarts: Counter[int] = field(default_factory=Counter)
    """Containers by how often they were restarted."""
    lost: int = 0
    """Calls that never arrived at the engine."""

    def add(self, other: "Tally") -> None:
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, each.name, mine + theirs)

    def told(self) -> str:
        return "\n".join(
            [
                f"{self.rounds} rounds, {self.alerts} alerts, {self.accepted} of them answered 200 by the first blow",
                f"kill -9:                      {sum(self.kills.values())}: {_each(self.kills)}",
                f"other blows:                  {_each(self.others)}",
                f"runs that a kill -9 met:      {_each(self.hit)}",
                f"messages that a kill -9 met:  {self.unread}",
                f"messages by the answer:       {_each(self.answers)}",
                f"steps in doubt, happened:     {_each(self.observed)}",
                f"taken over by another:        {_each(self.taken_over)}",
                f"seconds until then:           {_spread(self.takeovers)}",
                f"calls withheld after SIGSTOP: {self.withheld}",
                f"calls lost on their way:      {self.lost}",
                f"runs by calls of the engine:  {_each(self.goes)}",
                f"containers by restarts:       {_each(self.restarts)}",
            ]
        )


def _each(counter: Counter) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counter.items(), key=str)) or "none"


def _spread(seconds: Sequence[float]) -> str:
    return f"median {median(seconds):.1f}, longest {max(seconds):.1f} of {len(seconds)}" if seconds else "none"
