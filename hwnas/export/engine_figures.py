"""What was measured of one engine on one device, however often and beside whatever it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from hwnas.devices import Device, Engine, Measurement, Statistics

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


class EngineFigures(BaseModel):
    """One engine's figures; those of a capability are gated, as everywhere.

    Attributes:
        onnx_sha256, onnx_bytes: of the file that was compiled.
        runtime, provider, precision, threads: how it was compiled; provider None is the runtime's first choice.
        batch: images at once.
        engine_bytes, build_s, load_s: size of the engine, seconds to compile and to load it.
        gated: in the device's fast state, its capability; ``ungated``: what the machine gave while measuring.
        upload_ms, download_ms: median time to copy inputs in and outputs out.
        peak_memory_mib: of a fresh process that loads and runs the engine; ``engine_memory_mib`` is the part that it
            did not need before loading the engine.
        measurements: every sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    onnx_sha256: str
    onnx_bytes: int
    runtime: str
    provider: str | None
    precision: str
    threads: int
    batch: int
    engine_bytes: int
    build_s: float
    load_s: float
    gated: Timing
    ungated: Timing
    upload_ms: float
    download_ms: float
    peak_memory_mib: float
    engine_memory_mib: float
    measurements: tuple[Measurement, ...]

    @classmethod
    def of(
        cls, device: Device, name: str, onnx_bytes: int, engine: Engine, measurements: Sequence[Measurement]
    ) -> Self:
        """The figures of measurements that were judged by one fast state; the memory is measured now.

        Raises:
            DeviceError: the device does not tell a process's memory.
        """
        batch, memory = engine.inputs[0].shape[0], device.peak_memory(engine)
        return cls(
            name=name,
            onnx_sha256=engine.onnx_sha256,
            onnx_bytes=onnx_bytes,
            runtime=engine.options.runtime,
            provider=engine.options.provider,
            precision=engine.options.precision,
            threads=engine.options.threads,
            batch=batch,
            engine_bytes=engine.size_bytes,
            build_s=engine.build_s,
            load_s=engine.load_s,
            gated=Timing.of(gated_ns(measurements), batch),
            ungated=Timing.of(all_ns(measurements), batch),
            upload_ms=float(np.median([measurement.upload_ms for measurement in measurements])),
            download_ms=float(np.median([measurement.download_ms for measurement in measurements])),
            peak_memory_mib=memory.peak_bytes / _MIB,
            engine_memory_mib=memory.engine_mib,
            measurements=tuple(measurements),
        )


def gated_ns(measurements: Sequence[Measurement]) -> list[float]:
    """The samples in the device's fast state, in ns."""
    return list(chain.from_iterable(measurement.gated_samples_ns() for measurement in measurements))


def all_ns(measurements: Sequence[Measurement]) -> list[float]:
    """All samples, in ns."""
    return [float(time) for measurement in measurements for samples in measurement.samples_ns for time in samples]
