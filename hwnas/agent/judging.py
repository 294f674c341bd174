"""Which samples count, and what they say: pure functions, used by the agent to know when to stop and by the host
to judge stored batches again once the fast state is known better.

A machine that is shared jumps between speeds for seconds at a time.  A canary timed before and after every short
batch tells the speed that the batch had; the batch counts only when both canaries ran within ``tolerance`` of the
machine's fast state.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from typing import Deque, Iterable, List, Optional, Sequence, Tuple

FAST_QUANTILE = 0.05
"""The fast state is the 5th percentile of the canary's times."""

LEAST_SAMPLES = {0.5: 1, 0.9: 64, 0.99: 662}
"""Fewest samples for each percentile; below, it is not stated (MLPerf's early-stopping counts)."""


@dataclass(frozen=True)
class Batch:
    """Consecutive timed runs of one engine, and what is known of the machine while they ran."""

    samples_ns: Tuple[int, ...]
    canary_ns: Optional[Tuple[int, int]]
    """Canary before and after; ``None`` when the measurement was not gated."""
    clocks_moved: bool = False
    """Whether the device's clocks moved meanwhile, or something held them down."""
    preempted: bool = False
    """Whether the system took the processor away meanwhile: a run then holds somebody else's time slice."""

    def counts(self, fast_ns: float, tolerance: float) -> bool:
        """Whether the batch ran undisturbed, in the fast state, with still clocks."""
        if self.canary_ns is None or self.clocks_moved or self.preempted:
            return False
        return max(self.canary_ns) <= fast_ns * (1.0 + tolerance)

    def at_fast_state(self, fast_ns: float) -> List[float]:
        """The samples with the drift within the tolerance divided out: raw × fast state / mean of both canaries."""
        if self.canary_ns is None:
            return [float(sample) for sample in self.samples_ns]
        scale = 2.0 * fast_ns / sum(self.canary_ns)
        return [sample * scale for sample in self.samples_ns]


@dataclass(frozen=True)
class Summary:
    """Order statistics of n samples, in the samples' unit; ``None`` where n is too small to state one."""

    n: int
    p50: Optional[float]
    p90: Optional[float]
    p99: Optional[float]
    mad: Optional[float]
    """Median absolute deviation from the median, unscaled."""


def order_statistic(values: Sequence[float], p: float) -> float:
    """The ceil(p·n)-th smallest of n values, 0 < p ≤ 1."""
    # The subtraction keeps p·n from landing above a whole number by rounding (0.07 * 100 > 7).
    rank = math.ceil(p * len(values) - 1e-9)
    return sorted(values)[max(rank, 1) - 1]


def summarise(values: Sequence[float]) -> Summary:
    """The percentiles that ``len(values)`` samples may state, and their spread."""

    def percentile(p: float) -> Optional[float]:
        return order_statistic(values, p) if len(values) >= LEAST_SAMPLES[p] else None

    middle = percentile(0.5)
    mad = None if middle is None else order_statistic([abs(value - middle) for value in values], 0.5)
    return Summary(len(values), middle, percentile(0.9), percentile(0.99), mad)


def accepted_samples(
    batches: Iterable[Batch], fast_ns: float, tolerance: float, correct_drift: bool = False
) -> List[float]:
    """The samples (ns) of the batches that count, in order, corrected for drift if so wished."""
    samples: List[float] = []
    for batch in batches:
        if batch.counts(fast_ns, tolerance):
            samples.extend(batch.at_fast_state(fast_ns) if correct_drift else map(float, batch.samples_ns))
    return samples


def all_samples(batches: Iterable[Batch]) -> List[float]:
    """Every sample (ns), whatever the machine did: what it gave that day."""
    return [float(sample) for batch in batches for sample in batch.samples_ns]


def fast_state(batches: Iterable[Batch]) -> Optional[float]:
    """The fast state (ns) that all of these batches show together, or ``None`` if none was gated."""
    canaries = [time for batch in batches if batch.canary_ns is not None for time in batch.canary_ns]
    return order_statistic(canaries, FAST_QUANTILE) if canaries else None


class FastState:
    """The fast state as it is being learned: lowered as soon as a faster state persists, never raised.

    It follows the 5th percentile of the canary's last ``window`` times, so that a faster state is believed once it
    has lasted for a twentieth of the window, and a lucky single run is not.
    """

    def __init__(self, initial_ns: Optional[float] = None, window: int = 2000, settled: int = 200) -> None:
        self._lowest = initial_ns
        self._settled = settled
        self._recent: Deque[int] = deque(maxlen=window)
        self._ordered: List[int] = []

    @property
    def value_ns(self) -> Optional[float]:
        """The fast state in ns, or ``None`` before the first canary."""
        if not self._ordered:
            return self._lowest
        rank = math.ceil(FAST_QUANTILE * len(self._ordered))
        recent = float(self._ordered[rank - 1])
        return recent if self._lowest is None else min(recent, self._lowest)

    @property
    def settled(self) -> bool:
        """Whether so much was seen that the state is never raised from now on."""
        return len(self._ordered) >= self._settled

    def observe(self, canary_ns: int) -> None:
        """Take one more time of the canary."""
        if len(self._recent) == self._recent.maxlen:
            del self._ordered[bisect_left(self._ordered, self._recent[0])]
        self._recent.append(canary_ns)
        insort(self._ordered, canary_ns)
        if self.settled:  # the percentile of fewer is little more than their minimum
            self._lowest = self.value_ns
