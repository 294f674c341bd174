"""What a compiled model does on a device: latency, throughput, accuracy, sizes, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator

from hwnas.data import Dataset, to_input
from hwnas.devices import CompileOptions, Device, Engine, Measurement, MeasureOptions, Statistics
from hwnas.errors import DeviceError, HwnasError, UserError
from hwnas.files import Document, read_bytes
from hwnas.progress import Progress, Silent

P99_SAMPLES = 662
"""Fewest samples that state a p99 (MLPerf's early-stopping rule, see :mod:`hwnas.agent.judging`)."""
IMAGES_AT_ONCE = 500
_NS_PER_S = 1e9
_MIB = 2**20


class Timing(BaseModel):
    """Compute time of one run, transfers excluded; None where there are too few samples (p90: 64, p99: 662)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    mad_ms: float | None
    images_per_s: float | None
    """Throughput of runs back to back: images over their total time."""

    @classmethod
    def of(cls, samples_ns: Sequence[float], batch: int) -> Timing:
        """The figures of samples in ns, each a run over ``batch`` images."""
        total_ns = sum(samples_ns)
        images_per_s = batch * len(samples_ns) * _NS_PER_S / total_ns if total_ns else None
        found = Statistics.of(list(samples_ns))
        return cls(
            n=found.n,
            p50_ms=found.p50_ms,
            p90_ms=found.p90_ms,
            p99_ms=found.p99_ms,
            mad_ms=found.mad_ms,
            images_per_s=images_per_s,
        )


class BenchmarkResult(Document):
    """The figures of one model on one device.

    Attributes:
        onnx_sha256, onnx_bytes: of the file that was compiled.
        runtime, provider, precision, threads: how it was compiled; provider None is the runtime's first choice.
        batch, resolution: images at once, and their side in pixels.
        identity8: of the device's fingerprint at the time.
        engine_bytes, build_s, load_s: size of the engine, seconds to compile and to load it.
        gated: in the device's fast state, its capability; ``ungated``: what the machine gave while measuring.
        upload_ms, download_ms: median time to copy the input in and the logits out.
        peak_memory_mib: of a fresh process that loads and runs the engine; ``engine_memory_mib`` is the part that it
            did not need before loading the engine.
        top1: share of ``top1_images`` test images that the compiled engine classifies rightly, or None for the reason
            in ``top1_missing``.
        fast_state_ms: of the canary, by which ``gated`` was judged; None if nothing was gated.
        measurements: every sample.
    """

    name: str
    onnx_sha256: str
    onnx_bytes: int
    runtime: str
    provider: str | None
    precision: str
    threads: int
    batch: int
    resolution: int
    identity8: str
    engine_bytes: int
    build_s: float
    load_s: float
    gated: Timing
    ungated: Timing
    upload_ms: float
    download_ms: float
    peak_memory_mib: float
    engine_memory_mib: float
    top1: float | None
    top1_images: int
    top1_missing: str | None
    fast_state_ms: float | None
    measurements: tuple[Measurement, ...]

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
    dataset: Dataset | None,
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
        model_path: ONNX, static input [b, 3, resolution, resolution], logits [b, classes].
        dataset: whose test split the accuracy is of; None for a network that is not trained.
        top1_missing: with no data set, why there is no accuracy.
        progress: told of samples, then of images.

    Raises:
        ValueError: neither ``dataset`` nor ``top1_missing`` is given, or both are.
        BadFileError: there is no such model.
        UserError: the model's input or number of classes does not fit.
        DeviceError: the device failed, refused the model, or gave logits that are not finite.
    """
    if (dataset is None) == (top1_missing is None):
        raise ValueError("a benchmark takes either a data set or the reason why accuracy is not measured")
    options, progress = options or BenchmarkOptions(), progress or Silent()
    content = read_bytes(model_path, what="model")
    compile_options = options.compile or device.default_options()
    fingerprint = device.fingerprint(compile_options)
    with compiled(device, content, compile_options) as engine:
        _check_fit(engine, model_path, resolution, dataset)
        batch = engine.inputs[0].shape[0]
        measurements = _time(device, engine, name, options, progress)
        memory = device.peak_memory(engine)
        top1 = None if dataset is None else _top1(device, engine, name, dataset, resolution, progress)
        return BenchmarkResult(
            name=name,
            onnx_sha256=engine.onnx_sha256,
            onnx_bytes=len(content),
            runtime=compile_options.runtime,
            provider=compile_options.provider,
            precision=compile_options.precision,
            threads=compile_options.threads,
            batch=batch,
            resolution=resolution,
            identity8=fingerprint.identity8,
            engine_bytes=engine.size_bytes,
            build_s=engine.build_s,
            load_s=engine.load_s,
            gated=Timing.of(gated_ns(measurements), batch),
            ungated=Timing.of(all_ns(measurements), batch),
            upload_ms=float(np.median([measurement.upload_ms for measurement in measurements])),
            download_ms=float(np.median([measurement.download_ms for measurement in measurements])),
            peak_memory_mib=memory.peak_bytes / _MIB,
            engine_memory_mib=memory.engine_mib,
            top1=top1,
            top1_images=0 if dataset is None else len(dataset.test),
            top1_missing=top1_missing,
            fast_state_ms=measurements[-1].fast_state_ms,
            measurements=tuple(measurements),
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


def _check_fit(engine: Engine, model_path: Path, resolution: int, dataset: Dataset | None) -> None:
    shape, classes = engine.inputs[0].shape, engine.outputs[0].shape[-1]
    if shape[1:] != (3, resolution, resolution):
        raise UserError(
            f"Model {model_path} takes {list(shape[1:])}, not images of {resolution} pixels; export it again."
        )
    if dataset is not None and classes != dataset.num_classes:
        raise UserError(
            f"Model {model_path} has {classes} classes, data set {dataset.name} {dataset.num_classes}; "
            "give the data set that it was trained for."
        )


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


def gated_ns(measurements: Sequence[Measurement]) -> list[float]:
    """The samples in the device's fast state, in ns."""
    return list(chain.from_iterable(measurement.gated_samples_ns() for measurement in measurements))


def all_ns(measurements: Sequence[Measurement]) -> list[float]:
    """All samples, in ns."""
    return [float(time) for measurement in measurements for samples in measurement.samples_ns for time in samples]


def _top1(device: Device, engine: Engine, name: str, dataset: Dataset, resolution: int, progress: Progress) -> float:
    """Accuracy of the compiled engine on the test split, 0..1."""
    test = dataset.test
    correct = 0
    progress.start(f"accuracy of {name}", len(test), unit="images")
    pieces = (torch.split(tensor, IMAGES_AT_ONCE) for tensor in (test.pixels, test.labels))
    for pixels, labels in zip(*pieces, strict=True):
        images = to_input(pixels, resolution, dataset.mean, dataset.std)
        logits = device.infer(engine, images.numpy())
        if not np.isfinite(logits).all():
            raise DeviceError(
                f"the engine of {name} on '{device.target.name}' gives logits that are not finite; its precision "
                f"({engine.options.precision}) does not suit the network."
            )
        correct += int((logits.argmax(axis=1) == labels.numpy()).sum())
        progress.advance(len(labels))
    progress.finish()
    return correct / len(test)
