"""What the operator wrote in files that may be read anew: playbooks, planned maintenance and services; all of them or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from remediator.core.dependencies import Dependencies
from remediator.core.maintenance import Window
from remediator.core.playbook import Playbook, PlaybookIndex
from remediator.core.snapshot import Policy
from remediator.maintenance_file import load_windows
from remediator.playbook_files import load_playbooks
from remediator.ports import Clock
from remediator.services_file import load_dependencies
from remediator.settings import Settings
from remediator.telemetry import Log, Metrics
from remediator.yaml_lines import FileProblem, Problem

P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Files:
    """What the files say."""

    playbooks: tuple[Playbook, ...]
    windows: tuple[Window, ...]
    dependencies: Dependencies

    def applied_to(self, policy: Policy) -> Policy:
        """What is configured, with what the files add to it."""
        return replace(policy, maintenance=self.windows, dependencies=self.dependencies)


def read_files(settings: Settings) -> Files:
    """Read them all. Raises FileProblem with what is wrong in any."""
    wrong: list[Problem] = []
    files = Files(
        _read(load_playbooks, settings.playbooks, wrong) or (),
        _read(load_windows, settings.maintenance_file, wrong) or (),
        _read(load_dependencies, settings.services_file, wrong) or Dependencies(),
    )
    if wrong:
        raise FileProblem(wrong)
    return files


def _read(load: Callable[[P], T], path: P, wrong: list[Problem]) -> T | None:
    try:
        return load(path)
    except FileProblem as error:
        wrong += error.problems
        return None


class Shelf:
    """The files in force. A reload takes the new ones whole, or keeps the old ones and says why."""

    def __init__(self, settings: Settings, policy: Policy, clock: Clock, metrics: Metrics, log: Log) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self.index = PlaybookIndex(())
        self.policy = policy
        """What is configured, with the maintenance that is planned now and who needs whom."""

    def load(self) -> Sequence[str]:
        """Read the files; the problems, a line each, if they were not taken."""
        try:
            files = read_files(self._settings)
        except FileProblem as error:
            problems = [str(problem) for problem in error.problems]
            self._metrics.reload_ok.set(0)
            self._log.error("playbooks.rejected", problems=problems)
            return problems
        self.index = PlaybookIndex(files.playbooks)
        self.policy = files.applied_to(self.policy)
        self._metrics.reload_ok.set(1)
        self._metrics.reload_at.set(self._clock.now().timestamp())
        self._log.info("playbooks.loaded", count=len(files.playbooks), directory=str(self._settings.playbooks))
        self._say_what_is_planned(files.windows)
        if needs := files.dependencies.needs:
            self._log.info("services.loaded", count=len(needs), needing=sum(bool(needed) for needed in needs.values()))
        return ()

    def _say_what_is_planned(self, windows: Sequence[Window]) -> None:
        """A window that nobody remembers holds remediator back without a word: those that could are named."""
        if not windows:
            return
        now = self._clock.now()
        self._log.info("maintenance.loaded", windows=len(windows), in_force=[one.name for one in windows if one.contains(now)])
        if endless := [window.name for window in windows if window.is_endless]:
            self._log.warning("maintenance.endless", windows=endless)
