"""What is asked of a device and what it gives, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, StringConstraints

from hwnas.agent import arrays
from hwnas.agent.cooling import MOST_PAUSE_S
from hwnas.agent.knobs import MeasuringProtocol
from hwnas.agent.options import BuildOptions, ExecutionOptions, changed

_PATIENCE_S = 120.0
_CPU = "CPUExecutionProvider"
_SHARE_OF_BUILD = 0.9
"""Of the time for a compilation; the rest is for loading the engine, or for saying that the build took too long."""


@dataclass(frozen=True)
class CompileOptions:
    """How a model is compiled and run; ``provider`` ``None`` is the runtime's first choice on the target."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    provider: str | None = None
    timeout_s: float = 600.0
    build: BuildOptions = field(default_factory=BuildOptions)
    """Its ``timeout_s`` is within this record's."""
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    reads_fp16_pairs: bool = True
    """Whether the runtime reads Q and DQ of FP16, which TensorRT 8 does not."""

    @property
    def remainder(self) -> Literal["fp32", "fp16"]:
        """Of a model in INT8, the precision of what is not quantised: on a CPU, FP16 is stored and not computed in."""
        on_cpu = self.runtime == "onnxruntime" and (self.provider or _CPU) == _CPU
        return "fp32" if on_cpu or not self.reads_fp16_pairs else "fp16"

    def as_request(self) -> dict[str, Any]:
        """The fields of a request."""
        most = _SHARE_OF_BUILD * self.timeout_s
        timeout_s = most if self.build.timeout_s is None else min(most, self.build.timeout_s)
        named = {
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "build": changed(replace(self.build, timeout_s=timeout_s)),
            "execution": changed(self.execution),
        }
        return named if self.provider is None else {**named, "provider": self.provider}


@dataclass(frozen=True)
class MeasureOptions(MeasuringProtocol):
    """The protocol's knobs, and three that are not of the protocol."""

    fast_state_ms: float | None = None
    """The canary's fast state as an earlier session of the same device learned it."""
    timeout_s: float | None = None
    """When to give the agent up; ``None``: long after it should have ended."""
    most_pause_s: float = MOST_PAUSE_S
    """How long a device that is too hot is waited for beforehand."""

    def as_protocol(self) -> dict[str, Any]:
        """The protocol's knobs alone."""
        return {knob.name: getattr(self, knob.name) for knob in fields(MeasuringProtocol)}

    @property
    def patience_s(self) -> float:
        """How long the host waits for the agent."""
        expected = self.max_seconds + self.warmup_max_seconds + self.soak_seconds
        return _PATIENCE_S + 3 * expected if self.timeout_s is None else self.timeout_s


@dataclass(frozen=True)
class Tensor:
    """An input or output: name, NumPy type name, static shape."""

    name: str
    dtype: Annotated[str, StringConstraints(pattern=rf"^({'|'.join(arrays.TYPES)})$")]
    shape: tuple[PositiveInt, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        import numpy as np

        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Engine:
    """A model compiled on the device.  Every compilation gives another ``id``, so that builds can be told apart."""

    id: str
    size_bytes: int
    build_s: float
    load_s: float
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    onnx_sha256: str
    options: CompileOptions
    sha256: str = ""
    """Of the engine file."""
    runtime_version: str = ""
    sent_sha256: str = ""
    """Of what was sent to the device: the ONNX model, or another form of it."""


class Built(BaseModel):
    """The reply to an agent's request ``compile``: what of an :class:`Engine` the device says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(alias="engine")
    size_bytes: NonNegativeInt = Field(alias="bytes")
    sha256: str
    runtime_version: str
    build_s: NonNegativeFloat
    load_s: NonNegativeFloat
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a fresh process that loads and runs an engine."""

    peak_bytes: int
    baseline_bytes: int
    """With the runtime imported and the engine not yet loaded."""

    @property
    def engine_mib(self) -> float:
        """What loading and running the engine added, MiB."""
        return (self.peak_bytes - self.baseline_bytes) / 2**20
