"""How far a sitting is, for people."""

from __future__ import annotations

from collections.abc import Iterable

from hwnas.latency.agenda import Knobs
from hwnas.latency.crew import Board
from hwnas.latency.journal import Journal, JournalRecord
from hwnas.latency.plan import Unit
from hwnas.progress import Progress


class Gauge:
    """A progress bar: in seconds where they are what bounds the profile, else in builds; beside it what is done."""

    def __init__(
        self, progress: Progress, doing: str, expected_builds: int, knobs: Knobs, journal: Journal, boards: int
    ) -> None:
        """
        Args:
            doing: what the bar is called.
            expected_builds: where time does not bound them.
            boards: how many there are in the beginning.
        """
        self._progress, self._doing, self._expected = progress, doing, expected_builds
        self._knobs, self._journal, self._boards = knobs, journal, boards
        self._units: dict[str, Unit] = {}
        self._pauses = 0

    def start(self) -> None:
        """Begin."""
        if self._knobs.minutes is not None:
            self._progress.start(self._doing, 60 * self._knobs.minutes, self._journal.spent_s, unit="s")
        else:
            # Of interrupted profiles; what exceeds the plan is not known before its units are.
            done = min(sum(map(len, self._journal.builds.values())), self._expected)
            self._progress.start(self._doing, self._expected, done, unit="builds")

    def finish(self) -> None:
        """End."""
        self._progress.finish()

    def expect(self, units: Iterable[Unit]) -> None:
        """Count these, too, of which some may be done."""
        self._units.update({unit.key: unit for unit in units})

    def advance(self, unit: Unit, record: JournalRecord, at_work: int) -> None:
        """A unit was measured or refused, which is in the journal; so many boards are at work."""
        self._pauses += record.measurement is not None and record.measurement.pause is not None
        if self._knobs.minutes is not None:
            amount = record.seconds
        else:
            amount = float(self._journal.tries(unit.key) <= self._knobs.builds(unit))
        self._progress.advance(amount, self._note(at_work))

    def hear(self, board: Board, note: str) -> None:
        """Show what a board is waited for."""
        self._progress.advance(0.0, f"{board.name}: {note}" if self._boards > 1 else note)

    def leave(self, board: Board, reason: str) -> None:
        """Show that a board left, and why."""
        self._progress.advance(0.0, f"{board.name} left: {reason}")

    def _note(self, at_work: int) -> str:
        units = self._units.values()
        blocks = [self._journal.knows(unit.key) for unit in units if unit.architecture is None]
        networks = [self._journal.knows(unit.key) for unit in units if unit.architecture is not None]
        kinds = {"blocks": blocks, "networks": networks}
        done = [f"{sum(known)} of {len(known)} {kind}" for kind, known in kinds.items() if known]
        if self._boards > 1:
            done.append(f"{at_work} of {self._boards} boards")
        if self._pauses:
            done.append(f"paused {self._pauses} times to cool down")
        return ", ".join(done)
