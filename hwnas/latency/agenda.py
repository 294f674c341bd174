"""What a board measures next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from hwnas.devices import CompileOptions, MeasureOptions
from hwnas.latency.judging import Judge
from hwnas.latency.plan import Unit

FURTHER_BUILDS = 3
"""A unit is built and measured again until enough of its samples count, but no more often than this."""
FAILURES_AT_MOST = 2
"""A unit that the device refused so often is given up."""
TIES, TIE_BUILDS = 6, 2
"""Of several boards each measures so many networks that the others measure too, and builds each so often."""


@dataclass(frozen=True)
class Knobs:
    """How units are built and measured, and for how long in all."""

    minutes: float | None
    block_builds: int
    network_builds: int
    batch: int
    compile: CompileOptions
    blocks: MeasureOptions
    networks: MeasureOptions

    def of(self, unit: Unit) -> MeasureOptions:
        """The measuring protocol of a unit."""
        return self.blocks if unit.architecture is None else self.networks

    def builds(self, unit: Unit) -> int:
        """How often a unit is built and measured."""
        return self.block_builds if unit.architecture is None else self.network_builds


class Agenda:
    """Hands units out to boards, so that together they measure each as often as the knobs say."""

    def __init__(self, judge: Judge, knobs: Knobs, ties: Sequence[Unit]) -> None:
        """``ties``: what each board measures :data:`TIE_BUILDS` times, before anything else."""
        self._judge, self._knobs, self._ties = judge, knobs, tuple(ties)
        self._journal = judge.journal
        self._under_way: dict[str, str] = {}
        """Which unit each board is at."""
        self._forgiven: Counter[str] = Counter()
        """Tries of units that were the fault of a board that left."""

    def begin(self, units: Sequence[Unit], most_builds: int, board: str, at_work: Collection[str]) -> Unit | None:
        """What a free board does next; ``None``: nothing at present.

        All units once, twice, …, so often as the knobs say and no more often than ``most_builds``; then those that
        lack samples.

        Args:
            at_work: the names of all boards there are.
        """
        unit = self._next(units, most_builds, board, at_work)
        if unit is not None:
            self._under_way[board] = unit.key
        return unit

    def end(self, board: str) -> None:
        """The board is at nothing any more."""
        self._under_way.pop(board, None)

    def forgive(self, units: Iterable[str]) -> None:
        """Let a try of each unit, by its key, not count, since it was the fault of a board that left."""
        self._forgiven.update(units)

    def is_tied(self, board: str) -> bool:
        """Whether the board has measured all ties."""
        return all(self._journal.tries(tie.key, board) >= TIE_BUILDS for tie in self._ties)

    def _next(self, units: Sequence[Unit], most_builds: int, board: str, at_work: Collection[str]) -> Unit | None:
        for unit in self._ties:
            if self._journal.tries(unit.key, board) < TIE_BUILDS and not self._given_up(unit):
                return unit
        for tries in range(most_builds):
            for unit in units:
                wanted = self._tries(unit) <= tries < self._knobs.builds(unit) and not self._given_up(unit)
                if wanted and self._may_measure(board, unit, at_work):
                    return unit
        lacking = [
            unit for unit in units if self._lacks_samples(unit, most_builds) and self._may_measure(board, unit, at_work)
        ]
        return min(lacking, key=lambda unit: self._judge.count(unit.key), default=None)

    def _tries(self, unit: Unit) -> int:
        """How often the unit was tried, those included that are under way."""
        under_way = list(self._under_way.values()).count(unit.key)
        return self._journal.tries(unit.key) - self._forgiven[unit.key] + under_way

    def _given_up(self, unit: Unit) -> bool:
        return len(self._journal.failures(unit.key)) - self._forgiven[unit.key] >= FAILURES_AT_MOST

    def _lacks_samples(self, unit: Unit, most_builds: int) -> bool:
        builds = min(most_builds, self._knobs.builds(unit)) + FURTHER_BUILDS
        if self._given_up(unit) or unit.key in self._under_way.values() or self._tries(unit) >= builds:
            return False
        return self._judge.count(unit.key) < self._knobs.of(unit).min_samples

    def _may_measure(self, board: str, unit: Unit, at_work: Collection[str]) -> bool:
        """A held-out network is measured by one board alone, as whoever uses the table has one board."""
        if unit.role in (None, "calibration"):
            return True
        holders = {build.board for build in self._journal.builds[unit.key]}
        holders |= {name for name, key in self._under_way.items() if key == unit.key}
        return board in holders or not holders & set(at_work)
