"""The few candidates that are measured on the device before anybody is told that they keep the budget."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pydantic import ValidationError

from hwnas.devices import CompileOptions, Engine, Measurement, MeasureOptions, Statistics, fast_state_ms
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, append_json_line, describe, read_json_lines
from hwnas.progress import Progress, Silent
from hwnas.search.budget import Budget
from hwnas.spaces import Architecture

FINALIST_MEASURING = MeasureOptions(min_samples=256, max_seconds=10.0)
"""Three builds of it give the 662 samples that a p99 needs."""


class MeasuringDevice(Protocol):
    """What is asked of :class:`hwnas.devices.Device`."""

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        """A fresh build."""

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        """Time it."""

    def release(self, engine: Engine) -> None:
        """Remove it."""


class ExportedCandidate(NamedTuple):
    """An architecture to be measured: its ONNX model, and its top-1 on the validation split in 0..1."""

    architecture: Architecture
    onnx: bytes
    top1: float


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
        gated, ungated: order statistics (ms) over the samples of all builds: of the device in its fast state, and as
            the machine ran that day.
        build_p50_ms: gated p50 of each build, None for one that never ran in the fast state.
        keeps_gated_p50: whether the gated p50 is within the budget; False where there is none.
        builds: everything measured.
    """

    architecture: Architecture
    top1: float
    gated: Statistics
    ungated: Statistics
    build_p50_ms: tuple[float | None, ...]
    keeps_gated_p50: bool
    builds: tuple[MeasuredBuild, ...]


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

    The builds are measured in rounds over all candidates, so that a drift of the machine meets all alike, and judged
    together by one fast state of the device.  A candidate that then has fewer samples in the fast state than
    one build should give is built and measured again, up to twice as often.

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
    bench = _Bench(device, journal, compile_options or CompileOptions(), measure_options or FINALIST_MEASURING)
    models = {hashlib.sha256(candidate.onnx).hexdigest(): candidate for candidate in candidates}
    progress = progress or Silent()
    done = sum(min(len(bench.builds[sha256]), builds) for sha256 in models)
    progress.start("Measuring the finalists", builds * len(models), done=done, unit="builds")
    for number in range(1, 2 * builds + 1):
        for sha256, candidate in models.items():
            if len(bench.builds[sha256]) < number and (number <= builds or bench.lacks_samples(sha256, models)):
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
    """Those that keep the budget as measured, the most accurate first, the faster of equals before the slower."""
    keeping = [finalist for finalist in finalists if finalist.keeps_gated_p50]
    keeping.sort(key=lambda finalist: (-finalist.top1, finalist.gated.p50_ms or 0.0))
    return [finalist.architecture for finalist in keeping]


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

    def lacks_samples(self, sha256: str, models: Iterable[str]) -> bool:
        """Whether a model has fewer samples in the common fast state than one build should give."""
        fast_ms = self.fast_state_ms(models)
        if fast_ms is None:
            return False
        accepted = sum(len(line.measurement.judged(fast_ms).gated_samples_ns()) for line in self.builds[sha256])
        return accepted < self._measure_options.min_samples


def _finalist(
    candidate: ExportedCandidate, lines: list[MeasuredBuild], budget: Budget, fast_ms: float | None
) -> Finalist:
    """Judge all builds of a candidate by one fast state."""
    measurements = [line.measurement if fast_ms is None else line.measurement.judged(fast_ms) for line in lines]
    gated = Statistics.of([sample for m in measurements for sample in m.gated_samples_ns()])
    ungated = Statistics.of([float(sample) for m in measurements for batch in m.samples_ns for sample in batch])
    return Finalist(
        architecture=candidate.architecture,
        top1=candidate.top1,
        gated=gated,
        ungated=ungated,
        build_p50_ms=tuple(measurement.gated.p50_ms for measurement in measurements),
        keeps_gated_p50=gated.p50_ms is not None and gated.p50_ms <= budget.limit,
        builds=tuple(lines),
    )


def _read(journal: Path) -> Iterator[MeasuredBuild]:
    for number, line in enumerate(read_json_lines(journal), start=1):
        try:
            yield MeasuredBuild.model_validate(line)
        except ValidationError as error:
            raise BadFileError(f"{journal}, line {number}: {describe(error)}; delete the file.") from error
