"""What a model takes on this board, measured when it is loaded: short, and beside no request."""

from __future__ import annotations

import time
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple

from ..arrays import Array
from ..judging import LEAST_SAMPLES, order_statistic
from ..runtimes import Engine

Exclusive = Callable[[], ContextManager[bool]]
"""Keeps requests waiting within; what it yields is whether they do."""

MOST_S = 1.0
"""A model is measured for so long at most, or until its percentile can be stated."""
_SLICE_NS = 5_000_000
"""Requests wait for so long at most, or for one run."""
_WARM_RUNS, _LEAST_RUNS, _WANTED_RUNS = 3, 5, 64
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class Expected(NamedTuple):
    """A batch in, computed, and out: what a request pays beside its way to the service."""

    ms: float
    statistic: str
    """The model's own, or the highest below it that so many runs can state."""
    runs: int
    contended: bool
    """Whether requests may have run at the same time as some of it."""

    def as_record(self) -> Dict[str, Any]:
        """For the state of the service."""
        return {
            "expected_ms": self.ms,
            "statistic": self.statistic,
            "runs": self.runs,
            "contended": self.contended,
        }


def measure_expected(
    engine: Engine, batch: Array, statistic: str, exclusive: Exclusive, clock: Callable[[], int] = time.perf_counter_ns
) -> Expected:
    """
    Args:
        engine: of one input.
        batch: its input, of the engine's shape.
        statistic: ``p50``, ``p90`` or ``p99``: what is wanted.
        exclusive: entered for each few milliseconds of runs.
        clock: gives ns; it is replaced in tests.
    """
    enough, deadline = max(LEAST_SAMPLES[_PERCENTILES[statistic]], _WANTED_RUNS), clock() + int(1e9 * MOST_S)
    samples: List[int] = []
    contended = False
    with exclusive():
        for _ in range(_WARM_RUNS):
            _run(engine, batch)
    while len(samples) < enough and (len(samples) < _LEAST_RUNS or clock() < deadline):
        with exclusive() as alone:
            contended |= not alone
            end = clock() + _SLICE_NS
            while True:
                start = clock()
                _run(engine, batch)
                samples.append(clock() - start)
                if clock() >= end or len(samples) >= enough:
                    break
    stated = _statable(statistic, len(samples))
    ms = round(order_statistic(samples, _PERCENTILES[stated]) / 1e6, 4)  # as it is told, so a budget of it is kept
    return Expected(ms, stated, len(samples), contended)


def _run(engine: Engine, batch: Array) -> None:
    engine.upload([batch])
    engine.run()
    engine.download()


def _statable(statistic: str, runs: int) -> str:
    wanted = _PERCENTILES[statistic]
    return max(name for name, p in _PERCENTILES.items() if p <= wanted and runs >= LEAST_SAMPLES[p])
