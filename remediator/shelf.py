"""What the operator wrote in files that may be read anew: playbooks and planned maintenance, both or neither."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from remediator.core.maintenance import Window
from remediator.core.playbook import Playbook, PlaybookIndex
from remediator.core.snapshot import Policy
from remediator.maintenance_file import load_windows
from remediator.playbook_files import load_playbooks
from remediator.ports import Clock
from remediator.telemetry import Log, Metrics
from remediator.yaml_lines import FileProblem, Problem


class Shelf:
    """The files in force. A reload takes the new ones whole, or keeps the old ones and says why."""

    def __init__(
        self, directory: Path, maintenance: Path | None, policy: Policy, clock: Clock, metrics: Metrics, log: Log
    ) -> None:
        self._directory = directory
        self._maintenance = maintenance
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self.index = PlaybookIndex(())
        self.policy = policy
        """What is configured, with the maintenance that is planned now."""

    def load(self) -> Sequence[str]:
        """Read the files; the problems, a line each, if they were not taken."""
        wrong: list[Problem] = []
        playbooks: tuple[Playbook, ...] = ()
        windows: tuple[Window, ...] = ()
        try:
            playbooks = load_playbooks(self._directory)
        except FileProblem as error:
            wrong += error.problems
        try:
            windows = load_windows(self._maintenance)
        except FileProblem as error:
            wrong += error.problems
        if wrong:
            problems = [str(problem) for problem in wrong]
            self._metrics.reload_ok.set(0)
            self._log.error("playbooks.rejected", problems=problems)
            return problems
        self.index = PlaybookIndex(playbooks)
        self.policy = replace(self.policy, maintenance=windows)
        self._metrics.reload_ok.set(1)
        self._metrics.reload_at.set(self._clock.now().timestamp())
        self._log.info("playbooks.loaded", count=len(playbooks), directory=str(self._directory))
        self._say_what_is_planned(windows)
        return ()

    def _say_what_is_planned(self, windows: Sequence[Window]) -> None:
        """A window that nobody remembers holds remediator back without a word: those that could are named."""
        if not windows:
            return
        now = self._clock.now()
        self._log.info("maintenance.loaded", windows=len(windows), in_force=[one.name for one in windows if one.contains(now)])
        if endless := [window.name for window in windows if window.is_endless]:
            self._log.warning("maintenance.endless", windows=endless)
