"""The measuring protocol: warm up until stable, then short batches between two runs of the canary.

    batch = [canary] [engine discarded] [engine timed] × k [canary],  canary = [discarded] × w [timed]

With frames arriving at a rate, the engine's runs start on its grid instead, from idle and none discarded: clocks fall
and caches cool between frames, and that is what such a measurement is of.

The discarded runs bring code and data back into the caches: after a large network a canary would otherwise be slow
because of the network and not because of the machine.  All batches are given back, those that do not count too.
"""

from __future__ import annotations

import gc
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .arrays import Array
from .judging import Batch, FastState, order_statistic
from .knobs import MeasuringProtocol, WarmUp
from .runtimes import Engine, TensorInfo
from .sensors import Clocks, preemptions_so_far, read_clocks


@dataclass(frozen=True)
class Canary:
    """The canary as an engine, and the fast state learned with it in this session."""

    engine: Engine
    state: FastState


class Measurement:
    """One measurement of one engine by one protocol."""

    def __init__(
        self,
        engine: Engine,
        canary: Optional[Canary],
        protocol: MeasuringProtocol,
        clock: Callable[[], float] = time.perf_counter,
        clocks: Callable[[], Clocks] = read_clocks,
        preemptions: Callable[[], int] = preemptions_so_far,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``canary`` is not needed where the protocol does not gate; the sensors are replaced in tests."""
        if protocol.gate and canary is None:
            raise ValueError("a gated measurement needs a canary")
        self._engine = engine
        self._canary = canary if protocol.gate else None
        self._protocol = protocol
        self._clock = clock
        self._read_clocks = clocks
        self._sleep = sleep
        self._first_arrival = clock()
        self._preemptions = preemptions
        self._batches: List[Batch] = []
        self._readings: List[Clocks] = []
        self._tally = _Tally(None, protocol.tolerance)

    def run(self) -> Dict[str, Any]:
        """Measure; gives the protocol, all batches, the fast state and what else a reader must know."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._run()
        finally:
            if collecting:
                gc.enable()

    def _run(self) -> Dict[str, Any]:
        arrays = seeded_inputs(self._engine.inputs, self._protocol.seed)
        self._engine.upload(arrays)
        self._soak()
        warm = warm_up(self._engine, self._protocol, self._clock)
        start = self._clock()
        complete = self._gather(self._runs_per_batch(warm.last_median_ns), start + self._protocol.max_seconds)
        elapsed = self._clock() - start
        uploads, downloads = self._engine.timed_transfers(arrays, self._protocol.transfer_runs)
        state = None if self._canary is None else self._canary.state.value_ns
        return {
            "protocol": asdict(self._protocol),
            "samples_ns": [batch.samples_ns for batch in self._batches],
            "canary_ns": [batch.canary_ns for batch in self._batches],
            "clocks_moved": [batch.clocks_moved for batch in self._batches],
            "preempted": [batch.preempted for batch in self._batches],
            "fast_state_ns": state,
            "complete": complete,
            "warmup": asdict(warm),
            "clocks": [reading.as_record() for reading in self._readings],
            "upload_ns": uploads,
            "download_ns": downloads,
            "elapsed_s": elapsed,
        }

    def _gather(self, runs: int, deadline: float) -> bool:
        """Gather batches until enough count (true) or the time is over (false)."""
        self._readings.append(self._read_clocks())
        while True:
            first = len(self._batches)
            self._gather_between_readings(runs, deadline)
            self._readings.append(self._read_clocks())
            if self._disturbed(*self._readings[-2:]):
                self._batches[first:] = [replace(batch, clocks_moved=True) for batch in self._batches[first:]]
                self._tally = _Tally(self._tally.fast_ns, self._protocol.tolerance)
            if self._enough():
                return True
            if self._clock() >= deadline or self._too_hot(self._readings[-1]):
                return False

    def _too_hot(self, now: Clocks) -> bool:
        limit_c = self._protocol.temperature_limit_c
        return bool(limit_c) and now.temperature_c is not None and now.temperature_c >= limit_c

    def _disturbed(self, before: Clocks, after: Clocks) -> bool:
        """Whether what ran between two readings did so at moved clocks or throttled."""
        return after.throttled_since(before) or after.moved_since(before, self._protocol.clock_tolerance)

    def _gather_between_readings(self, runs: int, deadline: float) -> None:
        """At least one batch; no longer than the interval of the clock readings, the deadline, and what is needed."""
        end = min(deadline, self._clock() + self._protocol.clock_interval_seconds)
        while True:
            self._batches.append(self._batch(runs))
            if self._clock() >= end or self._enough():
                return

    def _batch(self, runs: int) -> Batch:
        taken_away = self._preemptions()
        before = self._canary_run()
        samples = self._timed_runs(runs)
        after = self._canary_run()
        canary = None if before is None or after is None else (before, after)
        # Both canaries can be fast around a run that waited for a time slice of 4 ms; large networks do all the time.
        return Batch(samples, canary, preempted=self._preemptions() != taken_away)

    def _timed_runs(self, runs: int) -> Tuple[int, ...]:
        """Back to back after a run that is discarded; or each on the grid of arrivals, from idle."""
        if not self._protocol.fps:
            return tuple(self._engine.timed_runs(1 + runs)[1:])
        samples = []
        for _ in range(runs):
            self._wait_for_arrival()
            samples += self._engine.timed_runs(1)
        return tuple(samples)

    def _wait_for_arrival(self) -> None:
        """Sleep until the next point of the grid; one that has passed meanwhile is a dropped frame."""
        period = 1.0 / self._protocol.fps
        now = self._clock()
        self._sleep(period - (now - self._first_arrival) % period)

    def _soak(self) -> None:
        """Run as long as the protocol wants, so that heat is as in service."""
        end = self._clock() + self._protocol.soak_seconds
        while self._clock() < end and not self._too_hot(self._read_clocks()):
            looking = min(end, self._clock() + self._protocol.clock_interval_seconds)
            self._engine.timed_runs(1)
            while self._clock() < looking:
                self._engine.timed_runs(1)

    def _canary_run(self) -> Optional[int]:
        if self._canary is None:
            return None
        duration = self._canary.engine.timed_runs(self._protocol.canary_warm_runs + 1)[-1]
        self._canary.state.observe(duration)
        return duration

    def _enough(self) -> bool:
        """Whether the samples that count, by the fast state as known now, suffice."""
        fast = None if self._canary is None else self._canary.state.value_ns
        if fast != self._tally.fast_ns:
            self._tally = _Tally(fast, self._protocol.tolerance)
        self._tally.take(self._batches)
        return (
            self._tally.count >= self._protocol.min_samples and self._tally.total_ns >= self._protocol.min_seconds * 1e9
        )

    def _runs_per_batch(self, expected_ns: int) -> int:
        if self._protocol.fps:
            return self._protocol.runs_per_batch
        fitting = int(self._protocol.batch_seconds * 1e9 / max(expected_ns, 1))
        return max(1, min(self._protocol.runs_per_batch, fitting))


class _Tally:
    """A running count of the samples that count by one fast state, so that no batch is judged twice by it."""

    def __init__(self, fast_ns: Optional[float], tolerance: float) -> None:
        self.fast_ns = fast_ns
        self.count = 0
        self.total_ns = 0
        self._tolerance = tolerance
        self._seen = 0

    def take(self, batches: Sequence[Batch]) -> None:
        """Count what was added to ``batches`` since the last call."""
        for batch in batches[self._seen :]:
            if self._counts(batch):
                self.count += len(batch.samples_ns)
                self.total_ns += sum(batch.samples_ns)
        self._seen = len(batches)

    def _counts(self, batch: Batch) -> bool:
        if self.fast_ns is None:
            return not batch.clocks_moved
        return batch.counts(self.fast_ns, self._tolerance)


def warm_up(engine: Engine, protocol: MeasuringProtocol, clock: Callable[[], float] = time.perf_counter) -> WarmUp:
    """Run ``engine`` for the protocol's least time, and then until two windows of runs agree or its time is over."""
    start = clock()
    window = max(3, min(200, int(1e6 / max(engine.timed_runs(2)[1], 1))))
    runs, before = 2, None  # type: int, Optional[float]
    while True:
        median = order_statistic(engine.timed_runs(window), 0.5)
        runs += window
        elapsed = clock() - start
        stable = before is not None and abs(median - before) <= protocol.warmup_tolerance * before
        if (stable and elapsed >= protocol.warmup_min_seconds) or elapsed >= protocol.warmup_max_seconds:
            return WarmUp(runs, elapsed, stable, int(median))
        before = median


def prepared_canary(
    engine: Engine, fast_state_ns: Optional[float] = None, clock: Callable[[], float] = time.perf_counter
) -> Canary:
    """A canary with its inputs in place, and warm; ``fast_state_ns`` as an earlier session learned it."""
    engine.upload(seeded_inputs(engine.inputs, seed=0))
    warm_up(engine, MeasuringProtocol(warmup_min_seconds=0.05), clock)
    return Canary(engine, FastState(fast_state_ns))


def learn_fast_state(canary: Canary, seconds: float, clock: Callable[[], float] = time.perf_counter) -> int:
    """Run the canary alone for a while, and until its state is settled; gives how often it was timed."""
    end = clock() + seconds
    runs = 0
    while not canary.state.settled or clock() < end:
        canary.state.observe(canary.engine.timed_runs(2)[1])
        runs += 1
    return runs


def seeded_inputs(tensors: Sequence[TensorInfo], seed: int) -> List[Array]:
    """Reproducible content without zeros and denormals, whose arithmetic has other speeds than a picture's."""
    generator = np.random.default_rng(seed)
    arrays = []
    for tensor in tensors:
        if tensor.dtype.startswith("float"):
            signs = generator.choice([-1.0, 1.0], size=tensor.shape)
            arrays.append((signs * generator.uniform(0.1, 1.0, size=tensor.shape)).astype(tensor.dtype))
        else:
            arrays.append(generator.integers(1, 100, size=tensor.shape).astype(tensor.dtype))
    return arrays


def timer_overhead_ns(count: int = 101) -> int:
    """The median time between two readings of the clock with nothing between: the floor of every sample."""
    clock = time.perf_counter_ns
    gaps: List[Tuple[int, int]] = [(clock(), clock()) for _ in range(count)]
    return int(order_statistic([after - before for before, after in gaps], 0.5))
