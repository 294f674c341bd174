"""What a compiled model does on a device: latency, throughput, accuracy, sizes, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from pydantic import model_validator

from hwnas.classification import Classification
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset
from hwnas.detection.forms import metric_of
from hwnas.detection.scores import DetectionScores
from hwnas.devices import CompileOptions, Device, Engine, Measurement, MeasureOptions
from hwnas.errors import DeviceError, HwnasError, UserError
from hwnas.export.classes import require_fit
from hwnas.export.engine_figures import EngineFigures, Timing, all_ns, gated_ns
from hwnas.export.engine_scores import classification, detection
from hwnas.files import Document, read_bytes
from hwnas.progress import Progress, Silent
from hwnas.spaces.space import Metric

P99_SAMPLES = 662
"""Fewest samples that state a p99 (MLPerf's early-stopping rule, see :mod:`hwnas.agent.judging`)."""


class BenchmarkResult(EngineFigures, Document):
    """The figures of one model on one device.

    Attributes:
        resolution: side of its images in pixels.
        identity8: of the device's fingerprint at the time.
        metric: what ``top1`` is.
        top1: share of ``top1_images`` test images that the compiled engine classifies rightly, or the mean average
            precision of a detector's engine on them; None for the reason in ``top1_missing``.
        classification, detection: everything else that these answers tell, of the one or the other task; None where
            ``top1`` is, and in older files.
        fast_state_ms: of the canary, by which ``gated`` was judged; None if nothing was gated.
    """

    resolution: int
    identity8: str
    top1: float | None
    top1_images: int
    top1_missing: str | None
    fast_state_ms: float | None
    metric: Metric = "top-1"
    classification: Classification | None = None
    detection: DetectionScores | None = None

    def judged(self, fast_state_ms: float) -> BenchmarkResult:
        """The same samples judged by another fast state; figures that are compared are judged by the same."""
        measurements = tuple(measurement.judged(fast_state_ms) for measurement in self.measurements)
        gated = Timing.of(gated_ns(measurements), self.batch)
        return self.model_copy(update={"measurements": measurements, "gated": gated, "fast_state_ms": fast_state_ms})

    @model_validator(mode="after")
    def _accuracy_or_reason(self) -> Self:
        if (self.top1 is None) == (self.top1_missing is None):
            raise ValueError("either top1 or the reason why it is missing must be given, and not both")
        return self


@dataclass(frozen=True)
class BenchmarkOptions:
    """How a benchmark measures.

    Attributes:
        compile: None for the target's defaults.
        measure: the protocol; ``min_samples`` is for the whole benchmark, ``max_seconds`` for each of the requests
            between which progress is shown.  The heat soak is the target's.
        max_seconds: after which timing ends, with fewer samples than wanted.
    """

    compile: CompileOptions | None = None
    measure: MeasureOptions = field(default_factory=lambda: MeasureOptions(min_samples=P99_SAMPLES, max_seconds=1.0))
    max_seconds: float = 60.0


def benchmark(
    device: Device,
    name: str,
    model_path: Path,
    dataset: AnyDataset | None,
    resolution: int,
    *,
    top1_missing: str | None = None,
    options: BenchmarkOptions | None = None,
    progress: Progress | None = None,
) -> BenchmarkResult:
    """Compile a model, time it, and run the test split through the engine.

    Args:
        device: where.
        name: what reports call the model.
        model_path: ONNX, static input [b, 3, resolution, resolution], logits [b, classes] or a detector's outputs.
        dataset: whose test split the accuracy is of; None for a network that is not trained.
        top1_missing: with no data set, why there is no accuracy.
        progress: told of samples, then of images.

    Raises:
        ValueError: neither ``dataset`` nor ``top1_missing`` is given, or both are.
        BadFileError: there is no such model.
        UserError: the model's input or number of classes does not fit, or it is for another task than the data set.
        DeviceError: the device failed, refused the model, or gave answers that are not finite.
    """
    if (dataset is None) == (top1_missing is None):
        raise ValueError("a benchmark takes either a data set or the reason why accuracy is not measured")
    options, progress = options or BenchmarkOptions(), progress or Silent()
    content = read_bytes(model_path, what="model")
    compile_options = options.compile or device.default_options()
    fingerprint = device.fingerprint(compile_options)
    with compiled(device, content, compile_options) as engine:
        _check_fit(engine, model_path, resolution, dataset)
        measurements = _time(device, engine, name, options, progress)
        figures = EngineFigures.of(device, name, len(content), engine, measurements)
        classified, detected = None, None
        if isinstance(dataset, DetectionDataset):
            detected = detection(device, engine, name, dataset, resolution, progress)
        elif dataset is not None:
            classified = classification(device, engine, name, dataset, resolution, progress)
        scored = classified or detected
        return BenchmarkResult(
            **dict(figures),
            resolution=resolution,
            identity8=fingerprint.identity8,
            metric=metric_of([output.name for output in engine.outputs]),
            top1=classified.top1 if classified else detected.map if detected else None,
            top1_images=scored.images if scored else 0,
            top1_missing=top1_missing,
            fast_state_ms=measurements[-1].fast_state_ms,
            classification=classified,
            detection=detected,
        )


@contextmanager
def compiled(device: Device, content: bytes, options: CompileOptions) -> Iterator[Engine]:
    """An engine that is removed from the device afterwards."""
    engine = device.compile(content, options)
    try:
        yield engine
    except HwnasError:
        # What went wrong first is what is told, whether or not the engine can still be removed.
        with suppress(DeviceError):
            device.release(engine)
        raise
    device.release(engine)


def _check_fit(engine: Engine, model_path: Path, resolution: int, dataset: AnyDataset | None) -> None:
    shape = engine.inputs[0].shape
    if shape[1:] != (3, resolution, resolution):
        raise UserError(
            f"Model {model_path} takes {list(shape[1:])}, not images of {resolution} pixels; export it again."
        )
    if dataset is not None:
        require_fit(f"Model {model_path}", {output.name: output.shape for output in engine.outputs}, dataset)


def _time(
    device: Device, engine: Engine, name: str, options: BenchmarkOptions, progress: Progress
) -> list[Measurement]:
    """Measure piece by piece until there are enough samples that count, all judged by the last fast state.

    Those that count are the ones that a promise for the target is kept on.
    """
    measurements: list[Measurement] = []
    gated = options.measure.gate and device.target.shared
    soak_s = device.target.promise_soak_s
    wanted, counted, elapsed_s = options.measure.min_samples, 0, 0.0
    progress.start(f"timing {name}", wanted, unit="samples")
    while not measurements or (counted < wanted and elapsed_s < options.max_seconds):
        piece = replace(options.measure, min_samples=wanted - counted, soak_seconds=0.0 if measurements else soak_s)
        measured = device.measure(engine, piece)
        elapsed_s += measured.elapsed_s
        # The device learns its fast state as it goes on, and never forgets a faster one.
        fast_ms = measured.fast_state_ms
        measurements.append(measured)
        if fast_ms is not None:
            measurements = [measurement.judged(fast_ms) for measurement in measurements]
        before = counted
        counted = len(gated_ns(measurements) if gated else all_ns(measurements))
        progress.advance(min(counted, wanted) - min(before, wanted))
    progress.finish()
    return measurements
