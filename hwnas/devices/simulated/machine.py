"""Virtual time, and what a machine does to runs in it: neighbours, drift, heat, lost time slices, outliers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hwnas.agent.cooling import Heat
from hwnas.agent.sensors import Clocks

_NOMINAL_MHZ = 2000.0
_COLD = 0.4
"""Share by which a run is slower when all of its data was driven out of the caches."""
_WARMING = 0.3
"""What is left of that in each further run."""
_CACHE_ELEMENTS = 300_000
"""What drives everything of another engine out."""
_TAIL = 1.5
"""Exponent of the outliers' Pareto distribution; their variance is infinite."""
_DRAWN_AT_ONCE = 4096


@dataclass(frozen=True)
class Conditions:
    """What disturbs runs; the defaults disturb nothing."""

    slowness: float = 1.0
    """Of this one of its kind: by which factor everything takes longer on it."""
    jitter: float = 0.0
    """By which share a run exceeds its least time in the mean, exponentially distributed."""
    outlier_share: float = 0.0
    """Of the runs that take longer by a heavy-tailed multiple of 10 %."""
    build_spread: float = 0.0
    """Standard deviation of the logarithm of what builds of one model take."""
    drift: float = 0.0
    """By which share the fast state slows down and recovers again, every :attr:`drift_period_s`."""
    drift_period_s: float = 20.0
    slow_factor: float = 1.0
    """In the state into which neighbours drive the machine at random times, for random times."""
    fast_s: float = 1.0
    """Mean duration of the fast state, and ``slow_s`` of the slow one."""
    slow_s: float = 0.5
    throttled_clock: float = 1.0
    """Share of the full clock at which arithmetic runs while the machine is too hot, which its sensors tell."""
    cool_s: float = 3.0
    """Mean time between two such stretches, and ``hot_s`` the mean length of one."""
    hot_s: float = 0.3
    ambient_c: float | None = None
    """Temperature of the machine that rests; ``None``: it has no thermometer."""
    loaded_c: float = 100.0
    """Towards which it goes while something runs, and back as :attr:`warming_s` says."""
    warming_s: float = 60.0
    """Time in which a difference of temperature falls to 37 %."""
    slows_down_c: float = math.inf
    """From here on it throttles."""
    preemptions_per_s: float = 0.0
    """How often a run loses its processor for :attr:`time_slice_s`, which the system counts."""
    time_slice_s: float = 0.004


UNDISTURBED = Conditions()
SHARED = Conditions(
    jitter=0.003,
    outlier_share=0.005,
    build_spread=0.003,
    drift=0.03,
    slow_factor=1.8,
    throttled_clock=0.85,
    preemptions_per_s=5.0,
)
"""A small computer that others use at the same time and that gets too hot."""


class Machine:
    """One processor in virtual time, which passes only while something runs or sleeps."""

    def __init__(self, conditions: Conditions, seed: int) -> None:
        slow, hot, excess, lost, drift = np.random.default_rng(seed).spawn(5)
        self.now_s = 0.0
        self.clock_share = 1.0
        """Of the nominal clock, what the power mode allows."""
        self._conditions = conditions
        self._slow = _Episodes(slow, conditions.fast_s, conditions.slow_s, conditions.slow_factor != 1.0)
        self._hot = _Episodes(hot, conditions.cool_s, conditions.hot_s, conditions.throttled_clock != 1.0)
        self._excess = _excesses(excess, conditions)
        self._lost, self._preemptions, self._next_loss_s = lost, 0, 0.0
        self._plan_loss()
        self._temperature_c, self._felt_s = conditions.ambient_c, 0.0
        self._phase = float(drift.uniform(0, 2 * math.pi))
        self._resident: tuple[object, int] = (None, 0)
        self._coldness = 0.0

    def clock(self) -> float:
        """Seconds since the machine was started."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass; whatever ran last finds its caches cold."""
        self.now_s += seconds
        self._resident = (None, _CACHE_ELEMENTS)

    def read_clocks(self) -> Clocks:
        """What the sensors tell."""
        heat = self.heat()
        mhz = _NOMINAL_MHZ * self.clock_share * (self._conditions.throttled_clock if heat.slowed_by else 1.0)
        events = self._hot.begun
        return Clocks(mhz, mhz, throttle_events=events, throttled=heat.slowed_by, temperature_c=heat.temperature_c)

    def heat(self) -> Heat:
        """How hot it is now."""
        self._feel(self._conditions.ambient_c)
        return Heat(self._temperature_c, ("cooling device cpufreq-cpu0 at 1 of 4",) if self._is_throttled() else ())

    def preemptions(self) -> int:
        """How often a run lost its processor so far."""
        return self._preemptions

    def enter(self, engine: object, elements: int) -> None:
        """``engine``, whose data has so many elements, runs next; another's data drove some of it out."""
        resident, others = self._resident
        if resident is not engine:
            self._coldness = _COLD * min(1.0, others / _CACHE_ELEMENTS)
            self._resident = (engine, elements)

    def run(self, full_clock_s: float, throttled_s: float) -> float:
        """One run of what takes so long undisturbed, at the full clock or throttled; gives what it takes now, s."""
        self._feel(self._conditions.ambient_c)
        start = self.now_s
        seconds = self._conditions.slowness * (throttled_s if self._is_throttled() else full_clock_s)
        seconds *= (1.0 + next(self._excess)) * (1.0 + self._coldness) * self._drift_at(start)
        self._coldness *= _WARMING
        if self._slow.at(start):
            seconds *= self._conditions.slow_factor
        if start + seconds > self._next_loss_s:
            seconds += self._conditions.time_slice_s
            self._preemptions += 1
        self.now_s = start + seconds
        self._feel(self._conditions.loaded_c)
        if self.now_s > self._next_loss_s:
            self._plan_loss()
        return seconds

    def _is_throttled(self) -> bool:
        too_hot = self._temperature_c is not None and self._temperature_c >= self._conditions.slows_down_c
        return self._hot.at(self.now_s) or too_hot

    def _feel(self, towards_c: float | None) -> None:
        """Warm up or cool down for the time that has passed since it was last felt."""
        if self._temperature_c is not None and towards_c is not None:
            left = math.exp((self._felt_s - self.now_s) / self._conditions.warming_s)
            self._temperature_c = towards_c + left * (self._temperature_c - towards_c)
            self._felt_s = self.now_s

    def _drift_at(self, now_s: float) -> float:
        turn = 2 * math.pi * now_s / self._conditions.drift_period_s + self._phase
        return 1.0 + self._conditions.drift * 0.5 * (1.0 - math.cos(turn))

    def _plan_loss(self) -> None:
        rate = self._conditions.preemptions_per_s
        self._next_loss_s = self.now_s + float(self._lost.exponential(1 / rate)) if rate else math.inf


class _Episodes:
    """Something that begins and ends at random times."""

    def __init__(self, rng: np.random.Generator, mean_off_s: float, mean_on_s: float, happens: bool) -> None:
        self._rng, self._means_s = rng, (mean_off_s, mean_on_s)
        self._on = False
        self._until_s = float(rng.exponential(mean_off_s)) if happens else math.inf
        self.begun = 0

    def at(self, now_s: float) -> bool:
        """Whether it is on; ``now_s`` never decreases."""
        while now_s >= self._until_s:
            self._on = not self._on
            self.begun += self._on
            self._until_s += float(self._rng.exponential(self._means_s[self._on]))
        return self._on


def _excesses(rng: np.random.Generator, conditions: Conditions) -> Iterator[float]:
    """By which shares runs exceed their least time, for ever."""
    while True:
        drawn = conditions.jitter * rng.exponential(size=_DRAWN_AT_ONCE)
        outlying = rng.random(_DRAWN_AT_ONCE) < conditions.outlier_share
        drawn[outlying] += 0.1 * (1.0 + rng.pareto(_TAIL, size=int(outlying.sum())))
        yield from drawn.tolist()
