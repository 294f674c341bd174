"""The few candidates that are measured on the device before anybody is told that they keep the budget.

One that kept the budget was chosen for samples that were good to it.  What is promised of it is therefore measured
afresh, on builds that had no part in the choice (:func:`choose_and_promise`).
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from hwnas.agent import judging
from hwnas.devices import CompileOptions, Engine, Measurement, MeasureOptions, Statistics, fast_state_ms
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, append_json_line, describe, read_json_lines
from hwnas.progress import Progress, Silent
from hwnas.search.bootstrap import Batches, percentile_interval
from hwnas.search.budget import Budget, Percentile
from hwnas.spaces import Architecture

LEAST_SAMPLES = 256
"""Of each build; three builds then give the 662 that a p99 needs."""
FINALIST_MEASURING = MeasureOptions(min_samples=LEAST_SAMPLES, max_seconds=10.0)
PROMISE_BUILDS = 3
"""Fewest fresh builds that a promise rests on."""
CHOICE_JOURNAL, PROMISE_JOURNAL = "journal.jsonl", "promises.jsonl"

_QUANTILES: dict[Percentile, float] = {"p50": 0.5, "p99": 0.99}
_NS_PER_MS = 1e6


class MeasuringDevice(Protocol):
    """What is asked of :class:`hwnas.devices.Device`."""

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        """A fresh build."""

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        """Time it."""

    def release(self, engine: Engine) -> None:
        """Remove it."""


class ExportedCandidate(NamedTuple):
    """An architecture to be measured: its ONNX model, and the accuracy in 0..1 that ranks it among those that keep."""

    architecture: Architecture
    onnx: bytes
    top1: float


class Measured(NamedTuple):
    """Order statistics (ms) over the samples of all builds of a model.

    ``interval_ms`` holds the budget's statistic with probability 95 % (:mod:`hwnas.search.bootstrap`); None where the
    samples are too few to state it.
    """

    statistics: Statistics
    interval_ms: tuple[float, float] | None

    def value_ms(self, statistic: Percentile) -> float | None:
        """The statistic, None where the samples are too few to state it."""
        return self.statistics.p50_ms if statistic == "p50" else self.statistics.p99_ms


class MeasuredBuild(Document):
    """A line of the journal: one build of one model, and every sample taken of it."""

    onnx_sha256: str
    build: int
    build_s: float
    engine_bytes: int
    options: CompileOptions
    measurement: Measurement


@dataclass(frozen=True)
class Finalist:
    """A candidate as measured.

    Attributes:
        gated, ungated: of the device in its fast state, which is its capability, and as the machine ran that day.
        build_p50_ms: p50 of each build by the budget's samples, None for one that has none of them.
        figure_ms: the budget's statistic of the budget's samples, None where they are too few to state it.
        keeps: whether that is within the budget; False where there is none.
        surely: whether its interval is, too.
        builds: everything measured.
    """

    architecture: Architecture
    top1: float
    gated: Measured
    ungated: Measured
    build_p50_ms: tuple[float | None, ...]
    figure_ms: float | None
    keeps: bool
    surely: bool
    builds: tuple[MeasuredBuild, ...]


@dataclass(frozen=True)
class Choice:
    """What came of :func:`choose_and_promise`.

    Attributes:
        measured: all candidates that were measured for the choice, in their order.
        promised: the one that was chosen, by the samples of further builds, on which its promise rests; None where no
            candidate kept the budget twice.
        broke: those that were chosen before it and did not keep the budget, or not surely, when measured again,
            likewise.
    """

    measured: tuple[Finalist, ...]
    promised: Finalist | None
    broke: tuple[Finalist, ...]


def measure_finalists(
    device: MeasuringDevice,
    candidates: Sequence[ExportedCandidate],
    budget: Budget,
    *,
    journal: Path,
    builds: int = 3,
    compile_options: CompileOptions | None = None,
    measure_options: MeasureOptions | None = None,
    progress: Progress | None = None,
) -> list[Finalist]:
    """Compile each candidate ``builds`` times afresh, measure each build, and compare with the budget.

    ``measure_options`` are how the device is measured; the samples that the budget's statistic takes, and the arrival
    of its runs, are seen to here.

    The builds are measured in rounds over all candidates, so that a drift of the machine meets all alike, and judged
    together by one fast state of the device.  A candidate that then has fewer samples than one build should give, or
    than the budget's statistic takes, is built and measured again, up to twice as often.

    Each measured build is in ``journal`` (JSON lines) before the next begins; called again for the same models and
    options, what is there is not measured again.  One journal is for one device.

    Returns:
        One finalist for each candidate, in their order.

    Raises:
        BadFileError: the journal is damaged.
        UserError: fewer than one build is asked for.
        DeviceError: the device failed.
    """
    if builds < 1:
        raise UserError(f"A finalist is measured on at least one build, not {builds}.")
    measuring = _sufficient(measure_options or FINALIST_MEASURING, budget, builds)
    bench = _Bench(device, journal, compile_options or CompileOptions(), measuring)
    models = {hashlib.sha256(candidate.onnx).hexdigest(): candidate for candidate in candidates}
    progress = progress or Silent()
    done = sum(min(len(bench.builds[sha256]), builds) for sha256 in models)
    progress.start("Measuring the finalists", builds * len(models), done=done, unit="builds")
    for number in range(1, 2 * builds + 1):
        for sha256, candidate in models.items():
            wanted = number <= builds or bench.lacks_samples(sha256, models, budget)
            if len(bench.builds[sha256]) < number and wanted:
                bench.measure(sha256, candidate.onnx)
                progress.advance()
    progress.finish()
    fast_ms = bench.fast_state_ms(models)
    hashes = [hashlib.sha256(candidate.onnx).hexdigest() for candidate in candidates]
    return [
        _finalist(candidate, bench.builds[sha256], budget, fast_ms)
        for candidate, sha256 in zip(candidates, hashes, strict=True)
    ]


def keepers(finalists: Iterable[Finalist]) -> list[Architecture]:
    """Those that keep the budget as measured.

    Those that do so with all of their interval come first; of these and of the others the most accurate, and the
    faster of equals before the slower.
    """
    keeping = [finalist for finalist in finalists if finalist.keeps]
    keeping.sort(key=lambda finalist: (not finalist.surely, -finalist.top1, finalist.figure_ms or 0.0))
    return [finalist.architecture for finalist in keeping]


def choose_and_promise(
    device: MeasuringDevice,
    groups: Iterable[Sequence[ExportedCandidate]],
    budget: Budget,
    *,
    directory: Path,
    builds: int = 3,
    refine: Callable[[Sequence[Finalist]], Sequence[ExportedCandidate]] | None = None,
    compile_options: CompileOptions | None = None,
    measure_options: MeasureOptions | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Measure group after group of candidates until one keeps the budget, and keeps it again on fresh builds.

    The second time is on at least three builds, with none of the samples that it was chosen by.  One whose whole
    interval then keeps the budget is preferred to all in its group whose figure alone does.  The journals are in
    ``directory``; called again after an interruption, what is there is not measured again.

    Args:
        refine: gives further candidates for the first group, knowing what its others were measured at.

    Raises:
        BadFileError: a journal is damaged.
        UserError: fewer than one build is asked for.
        DeviceError: the device failed.
    """
    measured: list[Finalist] = []
    broke: list[Finalist] = []

    def measure(candidates: Sequence[ExportedCandidate], journal: str, least_builds: int) -> list[Finalist]:
        return measure_finalists(
            device,
            candidates,
            budget,
            journal=directory / journal,
            builds=max(builds, least_builds),
            compile_options=compile_options,
            measure_options=measure_options,
            progress=progress,
        )

    for group in groups:
        candidates = list(group)
        found = measure(candidates, CHOICE_JOURNAL, 0)
        if refine is not None and not measured and (further := refine(found)):
            candidates += further
            found = measure(candidates, CHOICE_JOURNAL, 0)
        measured += found
        by_architecture = {candidate.architecture: candidate for candidate in candidates}
        again: list[Finalist] = []
        for architecture in keepers(found):
            again += measure([by_architecture[architecture]], PROMISE_JOURNAL, PROMISE_BUILDS)
            if again[-1].surely:
                break
        for promised in sorted(again, key=lambda finalist: not finalist.surely):
            if promised.keeps:
                broke += again[: again.index(promised)]
                return Choice(tuple(measured), promised, tuple(broke))
        broke += again
    return Choice(tuple(measured), None, tuple(broke))


def forget_measurements(directory: Path) -> None:
    """Have :func:`choose_and_promise` measure everything anew: what a busy machine gave must not stand for ever."""
    for journal in (CHOICE_JOURNAL, PROMISE_JOURNAL):
        (directory / journal).unlink(missing_ok=True)


def _sufficient(options: MeasureOptions, budget: Budget, builds: int) -> MeasureOptions:
    """The same measuring with as many samples a build as the budget's statistic takes, arriving as it says."""
    samples = max(options.min_samples, math.ceil(_least_samples(budget) / builds))
    # A sample takes a frame's time, and as many again leave room for batches that do not count.
    seconds = 4.0 * samples / budget.arrival.fps if budget.arrival.fps else 0.0
    max_seconds = max(options.max_seconds, seconds)
    return replace(options, min_samples=samples, max_seconds=max_seconds, fps=budget.arrival.fps)


class _Bench:
    """The device, and what the journal holds of measurements on it with the same options."""

    def __init__(
        self, device: MeasuringDevice, journal: Path, compile_options: CompileOptions, measure_options: MeasureOptions
    ) -> None:
        self._device = device
        self._journal = journal
        self._compile_options = compile_options
        self._measure_options = measure_options
        self.builds: defaultdict[str, list[MeasuredBuild]] = defaultdict(list)
        for line in _read(journal):
            knobs = {knob: getattr(line.measurement.protocol, knob) for knob in measure_options.as_protocol()}
            if line.options == compile_options and knobs == measure_options.as_protocol():
                self.builds[line.onnx_sha256].append(line)

    def measure(self, sha256: str, onnx: bytes) -> None:
        """One more build of a model, into the journal."""
        engine = self._device.compile(onnx, self._compile_options)
        measurement = self._device.measure(engine, self._measure_options)
        self._device.release(engine)
        line = MeasuredBuild(
            onnx_sha256=sha256,
            build=len(self.builds[sha256]),
            build_s=engine.build_s,
            engine_bytes=engine.size_bytes,
            options=self._compile_options,
            measurement=measurement,
        )
        append_json_line(self._journal, line)
        self.builds[sha256].append(line)

    def fast_state_ms(self, models: Iterable[str]) -> float | None:
        """The fast state by which these models are judged together; None if none was gated.

        It is the one that their builds show, or a faster one that the device has shown before, such as while it was
        profiled: predictions and finalists then speak of the same state.
        """
        measurements = [line.measurement for sha256 in models for line in self.builds[sha256]]
        states = [fast_state_ms(measurements), *(measurement.fast_state_ms for measurement in measurements)]
        return min((state for state in states if state is not None), default=None)

    def lacks_samples(self, sha256: str, models: Iterable[str], budget: Budget) -> bool:
        """Whether a model has fewer samples than one build should give, or than the budget's statistic takes.

        Those of a gated budget are the ones in the common fast state.
        """
        needed = max(self._measure_options.min_samples, _least_samples(budget))
        measurements = [line.measurement for line in self.builds[sha256]]
        if not budget.gated:
            return sum(len(batch) for measurement in measurements for batch in measurement.samples_ns) < needed
        fast_ms = self.fast_state_ms(models)
        if fast_ms is None:
            return False
        return sum(len(measurement.judged(fast_ms).gated_samples_ns()) for measurement in measurements) < needed


def _finalist(
    candidate: ExportedCandidate, lines: list[MeasuredBuild], budget: Budget, fast_ms: float | None
) -> Finalist:
    """Judge all builds of a candidate by one fast state."""
    measurements = [line.measurement if fast_ms is None else line.measurement.judged(fast_ms) for line in lines]
    gated = _measured([_gated_batches(measurement) for measurement in measurements], budget)
    ungated = _measured([measurement.samples_ns for measurement in measurements], budget)
    promised = gated if budget.gated else ungated
    figure, interval = promised.value_ms(budget.statistic), promised.interval_ms
    keeps = figure is not None and figure <= budget.limit
    return Finalist(
        architecture=candidate.architecture,
        top1=candidate.top1,
        gated=gated,
        ungated=ungated,
        build_p50_ms=tuple((m.gated if budget.gated else m.ungated).p50_ms for m in measurements),
        figure_ms=figure,
        keeps=keeps,
        surely=keeps and interval is not None and interval[1] <= budget.limit,
        builds=tuple(lines),
    )


def _gated_batches(measurement: Measurement) -> list[list[float]]:
    """The samples (ns) of each batch, none of one that does not count."""
    fast_ns, protocol = measurement.fast_state_ns, measurement.protocol
    if fast_ns is None:
        return []
    return [
        judging.accepted_samples([batch], fast_ns, protocol.tolerance, protocol.correct_drift)
        for batch in measurement.batches
    ]


def _measured(builds: Sequence[Batches], budget: Budget) -> Measured:
    """The figures of the samples (ns) of some builds."""
    statistics = Statistics.of([float(sample) for batches in builds for batch in batches for sample in batch])
    if statistics.n < _least_samples(budget):
        return Measured(statistics, None)
    interval = percentile_interval(builds, _QUANTILES[budget.statistic])
    return Measured(statistics, None if interval is None else (interval[0] / _NS_PER_MS, interval[1] / _NS_PER_MS))


def _least_samples(budget: Budget) -> int:
    """Fewest that state the budget's statistic."""
    return judging.LEAST_SAMPLES[_QUANTILES[budget.statistic]]


def _read(journal: Path) -> Iterator[MeasuredBuild]:
    for number, line in enumerate(read_json_lines(journal), start=1):
        try:
            yield MeasuredBuild.model_validate(line)
        except ValidationError as error:
            raise BadFileError(f"{journal}, line {number}: {describe(error)}; delete the file.") from error
