"""From a journal's raw batches to a table's figures, by the fast state that they show in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.devices import Measurement, Statistics
from hwnas.latency.journal import Journal
from hwnas.latency.plan import is_network
from hwnas.latency.speeds import Speed, board_speeds
from hwnas.latency.table import Timing

LEAST_SAMPLES = 8
"""A build with fewer samples that count does not count: their median may be anything."""
OUTLYING = 5.0
"""A sample so many standard deviations from its build's median is marked as an outlier, and kept."""
_MAD_OF_NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


class Judge:
    """Says of every unit of a journal how many samples count and what they are, as the journal grows.

    Batches are judged by the fast state as the canary has shown it by now, those from the beginning too, when it
    was not yet known well.  What several boards measured is told in the time scale of their kind.
    """

    def __init__(self, journal: Journal, fast_states_ms: Mapping[str, float] | None = None) -> None:
        """``fast_states_ms``: judge by these instead, so that figures are in the time scale of those judged so."""
        self.journal = journal
        self._given = None if fast_states_ms is None else dict(fast_states_ms)
        self._counts: dict[str, tuple[int, dict[str, dict[str, float]], int]] = {}
        self._speeds: tuple[int, dict[str, Speed]] = (-1, {})

    @property
    def boards(self) -> tuple[str, ...]:
        """Those that measured, if they are several."""
        boards = sorted(self.journal.boards)
        return tuple(boards) if len(boards) > 1 else ()

    @property
    def speeds(self) -> dict[str, Speed]:
        """Of each board, as all have shown it by now."""
        if self._speeds[0] != self.journal.lines:
            self._speeds = self.journal.lines, self._speeds_now()
        return self._speeds[1]

    @property
    def fast_states_ms(self) -> dict[str, float]:
        """Each canary's fast state in the time scale of what is told: of several boards, their kind's."""
        if self._given is not None:
            return self._given
        boards, states = self.journal.boards, self.journal.fast_states_ms
        if len(boards) == 1:
            return dict(states[boards[0]])
        return {
            canary: float(np.exp(np.mean([np.log(states[board][canary] / self._factor(board)) for board in boards])))
            for canary in self._common_canaries
        }

    def count(self, unit: str) -> int:
        """How many samples of a unit count."""
        builds, states = len(self.journal.builds[unit]), self._states_by_board
        known = self._counts.get(unit)
        if known is None or known[:2] != (builds, states):
            known = (builds, {board: dict(each) for board, each in states.items()}, self._count(unit))
            self._counts[unit] = known
        return known[2]

    def counts(self, board: str, measurement: Measurement) -> bool:
        """Whether any sample of a board's measurement counts."""
        state = self._states_by_board.get(board, {}).get(measurement.protocol.canary)
        return bool(_counting(measurement, state))

    def timing(self, unit: str) -> Timing | None:
        """The figures of a unit over its builds; ``None`` where none has :data:`LEAST_SAMPLES` that count."""
        found = [(board, samples) for board, samples in self._samples(unit) if len(samples) >= LEAST_SAMPLES]
        if not found:
            return None
        factors = {board: self._factor(board) for board in self.journal.boards}
        builds = [[sample / factors[board] for sample in samples] for board, samples in found]
        gated = Statistics.of([sample for samples in builds for sample in samples])
        ungated = Statistics.of(
            [
                sample / factors[board]
                for board, measurement in self.journal.builds[unit]
                for batch in measurement.samples_ns
                for sample in batch
            ]
        )
        medians = [ms for ms in (Statistics.of(samples).p50_ms for samples in builds) if ms is not None]
        median = location(medians)
        assert gated.mad_ms is not None and ungated.p50_ms is not None
        return Timing(
            n=gated.n,
            median_ms=median,
            p90_ms=_unless_below(median, gated.p90_ms),
            p99_ms=_unless_below(median, gated.p99_ms),
            mad_ms=gated.mad_ms,
            outliers=sum(map(_outliers, builds)),
            builds=len(builds),
            build_medians_ms=tuple(medians),
            boards=tuple(self.boards.index(board) for board, _ in found if self.boards),
            ungated_n=ungated.n,
            ungated_median_ms=ungated.p50_ms,
            ungated_p99_ms=ungated.p99_ms,
        )

    def _count(self, unit: str) -> int:
        return sum(len(samples) for _, samples in self._samples(unit))

    def _factor(self, board: str) -> float:
        return self.speeds[board].factor

    @property
    def _states_by_board(self) -> dict[str, dict[str, float]]:
        if self._given is None:
            return self.journal.fast_states_ms
        return dict.fromkeys(self.journal.boards, self._given)

    @property
    def _common_canaries(self) -> list[str]:
        """Those whose fast state is known of all boards."""
        states = [set(known) for known in self._states_by_board.values()]
        return sorted(set.intersection(*states)) if states else []

    def _samples(self, unit: str) -> list[tuple[str, list[float]]]:
        """The samples that count, in ns, build by build, each with its board."""
        states = self._states_by_board
        return [
            (board, _counting(measurement, states[board].get(measurement.protocol.canary)))
            for board, measurement in self.journal.builds[unit]
        ]

    def _speeds_now(self) -> dict[str, Speed]:
        states = self._states_by_board
        networks = [unit for unit, builds in self.journal.builds.items() if builds and is_network(unit)]
        canaries = {self.journal.builds[unit][0].measurement.protocol.canary for unit in networks}
        canary = next(iter(canaries or self._common_canaries), "")
        return board_speeds(
            {board: states[board].get(canary) for board in sorted(states)},
            [self._medians_by_board(unit) for unit in networks if len(self._boards_of(unit)) > 1],
        )

    def _boards_of(self, unit: str) -> set[str]:
        return {build.board for build in self.journal.builds[unit]}

    def _medians_by_board(self, unit: str) -> dict[str, float]:
        """In ms, each in the time scale of its board."""
        medians: dict[str, list[float]] = {}
        for board, samples in self._samples(unit):
            p50_ms = Statistics.of(samples).p50_ms
            if len(samples) >= LEAST_SAMPLES and p50_ms is not None:
                medians.setdefault(board, []).append(p50_ms)
        return {board: location(found) for board, found in medians.items()}


def location(medians: Sequence[float]) -> float:
    """The mean without the extremes: the middle one of three, and less spread than the middle one of five."""
    inner = sorted(medians)[1:-1] if len(medians) > 2 else medians
    return sum(inner) / len(inner)


def _outliers(samples: list[float]) -> int:
    """How many of a build's samples lie further than :data:`OUTLYING` deviations from its median."""
    values = np.array(samples)
    distance = np.abs(values - np.median(values))
    return int((distance > OUTLYING * _MAD_OF_NORMAL * np.median(distance)).sum())


def _unless_below(median: float, percentile: float | None) -> float | None:
    return percentile if percentile is not None and percentile >= median else None


def _counting(measurement: Measurement, fast_state_ms: float | None) -> list[float]:
    if fast_state_ms is not None and measurement.protocol.gate:
        return measurement.judged(fast_state_ms).gated_samples_ns()
    still = zip(measurement.samples_ns, measurement.clocks_moved, strict=True)
    return [float(sample) for samples, moved in still if not moved for sample in samples]
