"""From a journal's raw batches to a table's figures, by the fast state that they show in the end."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwnas.devices import Measurement, Statistics
from hwnas.latency.journal import Journal
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
    was not yet known well.
    """

    def __init__(self, journal: Journal, fast_states_ms: Mapping[str, float] | None = None) -> None:
        """``fast_states_ms``: judge by these instead, so that figures are in the time scale of those judged so."""
        self.journal = journal
        self._given = None if fast_states_ms is None else dict(fast_states_ms)
        self._counts: dict[str, tuple[int, dict[str, float], int]] = {}

    def count(self, unit: str) -> int:
        """How many samples of a unit count."""
        builds, states = len(self.journal.measurements[unit]), self._fast_states_ms
        known = self._counts.get(unit)
        if known is None or known[:2] != (builds, states):
            known = (builds, dict(states), sum(len(samples) for samples in self._samples(unit)))
            self._counts[unit] = known
        return known[2]

    def timing(self, unit: str) -> Timing | None:
        """The figures of a unit over its builds; ``None`` where none has :data:`LEAST_SAMPLES` that count."""
        builds = [samples for samples in self._samples(unit) if len(samples) >= LEAST_SAMPLES]
        if not builds:
            return None
        gated = Statistics.of([sample for samples in builds for sample in samples])
        ungated = Statistics.of(
            [float(sample) for m in self.journal.measurements[unit] for batch in m.samples_ns for sample in batch]
        )
        medians = [ms for ms in (Statistics.of(samples).p50_ms for samples in builds) if ms is not None]
        median = _location(medians)
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
            ungated_n=ungated.n,
            ungated_median_ms=ungated.p50_ms,
            ungated_p99_ms=ungated.p99_ms,
        )

    @property
    def _fast_states_ms(self) -> dict[str, float]:
        return self.journal.fast_states_ms if self._given is None else self._given

    def _samples(self, unit: str) -> list[list[float]]:
        """The samples that count, in ns, build by build."""
        states = self._fast_states_ms
        return [_counting(m, states.get(m.protocol.canary)) for m in self.journal.measurements[unit]]


def _location(medians: list[float]) -> float:
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
