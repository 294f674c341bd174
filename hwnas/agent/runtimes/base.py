"""What a runtime must do to be measured.

A new runtime is a new file here and one line in :data:`hwnas.agent.runtimes.RUNTIMES`; tests/conformance holds the
suite that it must pass.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..arrays import Array
from ..options import BuildOptions, ExecutionOptions
from ..protocol import Fields, Message
from ..queries import HostQueries, Queries
from ..trtexec import TrtexecKnobs


@dataclass(frozen=True)
class RuntimeOptions:
    """How an engine is compiled and run."""

    provider: str
    precision: str = "fp32"
    threads: int = 1
    build: BuildOptions = field(default_factory=BuildOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU executes the engine."""
        return not self.provider.lower().startswith("cpu")

    def as_record(self) -> Dict[str, Any]:
        """For the ledger and the replies."""
        return asdict(self)

    @classmethod
    def from_message(cls, message: Message, default_provider: Optional[str] = None) -> "RuntimeOptions":
        """The options of a request or of :meth:`as_record`, each checked.

        Raises:
            AgentError: ``bad-request``.
        """
        given = Fields(message)
        return cls(
            provider=given.text("provider", default_provider),
            precision=given.text("precision", cls.precision),
            threads=given.integer("threads", cls.threads, least=1),
            build=BuildOptions.from_message(given.record("build", {})),
            execution=ExecutionOptions.from_message(given.record("execution", {})),
        )


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of an engine: its name, NumPy type name and static shape."""

    name: str
    dtype: str
    shape: Tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def as_record(self) -> Dict[str, Any]:
        """For the replies."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}


class Engine(ABC):
    """A compiled model in the device's memory, with its inputs and outputs allocated once."""

    inputs: List[TensorInfo]
    """In the model's order."""
    outputs: List[TensorInfo]
    """In the model's order."""

    @abstractmethod
    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy the inputs to where :meth:`run` reads them."""

    @abstractmethod
    def run(self) -> None:
        """Compute once from the uploaded inputs and wait for the end."""

    @abstractmethod
    def download(self) -> List[Array]:
        """Copy the outputs of the last :meth:`run` to the host's memory."""

    def close(self) -> None:
        """Give back what the engine holds; it cannot be used any more.  Most need nothing but to be forgotten."""
        return None

    def timed_runs(self, count: int) -> List[int]:
        """Run ``count`` times and give each run's compute time in ns, transfers excluded.

        This clock is right where :meth:`run` computes on the calling CPU; a GPU's engine overrides it with events.
        """
        run, clock = self.run, time.perf_counter_ns
        durations = []
        for _ in range(count):
            start = clock()
            run()
            durations.append(clock() - start)
        return durations

    def timed_transfers(self, arrays: Sequence[Array], count: int) -> Tuple[List[int], List[int]]:
        """Times in ns of ``count`` uploads of ``arrays`` and of ``count`` downloads."""
        clock = time.perf_counter_ns
        uploads, downloads = [], []
        for _ in range(count):
            start = clock()
            self.upload(arrays)
            middle = clock()
            self.download()
            uploads.append(middle - start)
            downloads.append(clock() - middle)
        return uploads, downloads

    def queries(self, knobs: TrtexecKnobs, inputs: Sequence[Array]) -> Queries:
        """This engine with queries in flight, for measuring as trtexec does; here one at a time by the host's clock.

        A GPU's engine gives its own, timed by events.

        Raises:
            AgentError: ``bad-request`` when a knob cannot be met; ``out-of-memory``.
        """
        return HostQueries(self, knobs, inputs)


class Runtime(ABC):
    """What executes a model on this device.  Compiling and running are apart: an engine is a file in between."""

    name: str
    default_provider: str
    precisions: Sequence[str]

    @abstractmethod
    def version(self) -> str:
        """The version of the library."""

    @abstractmethod
    def providers(self) -> List[str]:
        """What this runtime can compute on here."""

    @abstractmethod
    def identity(self, options: RuntimeOptions) -> Dict[str, Any]:
        """What, beside name and version, a timing by this runtime depends on; stable from probe to probe."""

    def canary_options(self, options: RuntimeOptions) -> RuntimeOptions:
        """How the canary is built that runs beside engines of these options: in FP32 by the same provider."""
        return RuntimeOptions(options.provider)

    @abstractmethod
    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        """Compile an ONNX model into the engine file ``output``.

        What it can tell of the engine it may write to :func:`explanation_path`, as an object of JSON.

        Raises:
            AgentError: ``model-refused``, or ``fallback`` when the provider would not execute all of it.
        """

    @abstractmethod
    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        """Load the content of an engine file that :meth:`compile` made with the same options.

        Raises:
            AgentError: as :meth:`compile`.
        """


def explanation_path(engine: Path) -> Path:
    """Where the explanation of an engine file lies: layers, their times, and how the build went."""
    return engine.with_suffix(".explanation.json")
