"""The single checks of a candidate, each with what was found, the limit, and a sentence."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from ..inference import infer
from ..judging import LEAST_SAMPLES, order_statistic
from ..knobs import MeasuringProtocol
from ..memory import StoredEngine, measure_peak
from ..protocol import AgentError
from ..runtimes import Engine
from ..sensors import Clocks
from . import manifest
from .golden import differences, read_golden
from .manifest import Budget, Model
from .slot_files import BuiltEngine, SlotFiles

_MIB = float(1 << 20)
_PERCENTILES = {"p50": 0.5, "p99": 0.99}
_RUNS = LEAST_SAMPLES[0.99]
_SLICE_S, _WARM_S = 1.2, 0.2
"""Together shorter than the service can be held back."""
_LEAST_PATIENCE_S = 60.0
_TIMES_BUDGET = 3.0


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    name: str
    """``golden``, ``accuracy``, ``latency``, ``memory`` or ``throttling``."""
    model: str
    ok: bool
    found: Optional[float]
    limit: Optional[float]
    unit: str
    says: str

    def as_record(self) -> Dict[str, Any]:
        """For the result."""
        return asdict(self)


def golden(engine: Engine, files: SlotFiles, model: Model) -> Check:
    """Whether the golden outputs come of the golden inputs."""
    expected = read_golden(files, model)
    try:
        found = differences(engine, expected)
    except AgentError as error:
        return Check("golden", model.id, False, None, None, "", "it does not compute: %s" % error.message)
    worst = max(found, key=lambda each: (not each.ok, each.largest / (each.expected.absolute or 1.0)))
    limits = worst.expected
    says = "golden outputs differ by %.3g at most%s; %g and %g of each output are allowed" % (
        worst.largest,
        "" if len(found) == 1 else ", in '%s'" % limits.name,
        limits.absolute,
        limits.relative,
    )
    return Check("golden", model.id, worst.ok, _finite(worst.largest), limits.absolute, "", says)


def accuracy(engine: Engine, files: SlotFiles, model: Model, samples: manifest.Samples) -> Check:
    """Whether enough of the bundled samples are told right."""
    labels = files.array(samples.labels)
    told = infer(engine, files.array(samples.images)).argmax(axis=-1)
    right = float(np.mean(told == labels)) if told.shape == labels.shape and labels.size else 0.0
    says = "%.1f %% of %d samples are told right, %.1f %% must be" % (
        100 * right,
        labels.size,
        100 * samples.least_accuracy,
    )
    return Check("accuracy", model.id, right >= samples.least_accuracy, right, samples.least_accuracy, "", says)


def memory_alone(built: BuiltEngine, model: Model) -> Check:
    """Whether a process that loads and runs the engine stays within the model's budget."""
    limit = model.budget.memory_mib
    try:
        grown = _growth_mib([built])
    except AgentError as error:
        return Check("memory", model.id, False, None, limit, "MiB", error.message)
    allowed = "no budget is set" if limit is None else "%.1f MiB are its budget" % limit
    ok = limit is None or grown <= limit
    return Check("memory", model.id, ok, grown, limit, "MiB", "it takes %.1f MiB, %s" % (grown, allowed))


def memory_together(engines: Sequence[BuiltEngine], available_bytes: Optional[int]) -> Check:
    """Whether the board has the memory for all engines at once, as while the service switches."""
    limit = None if available_bytes is None else available_bytes / _MIB
    try:
        grown = _growth_mib(engines)
    except AgentError as error:
        return Check("memory", "all", False, None, limit, "MiB", error.message)
    ok = limit is None or grown <= limit
    here = "the board does not tell what it has" if limit is None else "the board has %.1f MiB" % limit
    says = "all engines of candidate and current slot (%d) take %.1f MiB together, %s" % (len(engines), grown, here)
    return Check("memory", "all", ok, grown, limit, "MiB", says)


def throttling(model: Model, readings: Sequence[Clocks]) -> Check:
    """Whether the board throttled while latency was measured."""
    pairs = zip(readings, readings[1:])  # pairwise is there from Python 3.10 on
    throttled = [later for earlier, later in pairs if later.throttled_since(earlier)]
    words = sorted({word for reading in readings for word in reading.throttled})
    says = "nothing that this board tells says that it throttled"
    if throttled:
        says = "the board throttled while latency was measured: %s" % (", ".join(words) or "its counter rose")
    return Check("throttling", model.id, not throttled, float(len(throttled)), 0.0, "times", says)


class Samples:
    """Run times of one engine, gathered until its budget's statistic can be stated, or cannot be met any more."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._limit_ns = math.inf if budget.latency_ms is None else budget.latency_ms * 1e6
        self._samples: List[float] = []
        longest_s = _TIMES_BUDGET * _RUNS * (budget.latency_ms or 0.0) / 1e3
        self._deadline = time.monotonic() + max(_LEAST_PATIENCE_S, longest_s)

    def next_protocol(self) -> MeasuringProtocol:
        """How the next slice is measured: ungated, as the model will run."""
        return MeasuringProtocol(
            gate=False,
            min_samples=max(1, _RUNS - len(self._samples)),
            max_seconds=_SLICE_S,
            warmup_max_seconds=_WARM_S,
            transfer_runs=1,
        )

    def take(self, result: Dict[str, Any]) -> None:
        """Add a measurement's samples, whatever the machine did meanwhile: in service it will, too."""
        self._samples += [float(sample) for batch in result["samples_ns"] for sample in batch]

    def enough(self) -> bool:
        """Whether the verdict is sure, or the time is over."""
        return len(self._samples) >= _RUNS or self._is_lost() or time.monotonic() > self._deadline

    def verdict(self, model: str) -> Check:
        """Whether the statistic is within the budget; one that too few runs can state is not."""
        p, limit, n = _PERCENTILES[self._budget.statistic], self._budget.latency_ms, len(self._samples)
        found = order_statistic(self._samples, p) / 1e6
        complete = n >= _RUNS
        says = "%s is %.3f ms of %d runs" % (self._budget.statistic, found, n)
        if limit is not None:
            says += ", the budget %g ms" % limit
        if not complete and self._is_lost():
            says += "; no more were needed to see that it cannot be met"
        elif not complete:
            says += "; %d are needed to state it, and the time was over" % _RUNS
        ok = complete and (limit is None or found <= limit)
        return Check("latency", model, ok, found, limit, "ms", says)

    def _is_lost(self) -> bool:
        """Whether so many runs took too long that the statistic of all cannot be within the budget."""
        may_exceed = _RUNS - math.ceil(_PERCENTILES[self._budget.statistic] * _RUNS - 1e-9)
        return sum(sample > self._limit_ns for sample in self._samples) > may_exceed


def _growth_mib(engines: Sequence[BuiltEngine]) -> float:
    first, *others = (StoredEngine(built.content, built.runtime, built.options) for built in engines)
    peak = measure_peak(*first, beside=others)
    return float(peak["peak_bytes"] - peak["baseline_bytes"]) / _MIB


def _finite(number: float) -> Optional[float]:
    return number if math.isfinite(number) else None
