"""What TensorRT and TensorRT-RTX have in common as runtimes: a build in a process of its own, an engine on the GPU."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..arrays import Array
from ..cuda import Cuda, open_cuda
from ..cuda.queries import CudaQueries
from ..cuda.timing import Binding, CudaRun
from ..options import ExecutionOptions, changed
from ..protocol import AgentError, ErrorKind, Message
from ..queries import Queries
from ..trt.apart import run_apart
from ..trt.execution import Execution, LoadedEngine
from ..trt.gpu import gpu_identity
from ..trt.library import Library, open_library
from ..trtexec import TrtexecKnobs
from .base import Engine, Runtime, RuntimeOptions, explanation_path

GPU = "gpu"
_SMALL_WORKSPACE_MIB = 256
_OF_NO_ACCOUNT = ("tensor_scales", "profiling", "timeout_s", "memory_mib")
"""Options of a build that no timing depends on."""


class TensorRtRuntime(Runtime):
    """Either library; ``module`` is where it is imported from."""

    default_provider = GPU
    module: str
    times_kernels: bool
    """Whether a build times kernels on the GPU, which a timing cache spares the next one."""

    def __init__(self) -> None:
        self._library: Library = open_library(self.module)
        self._cuda: Optional[Cuda] = None

    def version(self) -> str:
        """The version of the library."""
        return self._library.version

    def identity(self, options: RuntimeOptions) -> Dict[str, Any]:
        """The GPU, where the engine runs, and whatever of building and running is not as by default."""
        build = {name: value for name, value in changed(options.build).items() if name not in _OF_NO_ACCOUNT}
        found: Dict[str, Any] = {"provider": options.provider, "threads": options.threads}
        found["gpu"] = gpu_identity(self._gpu(options))
        if build:
            found["build"] = build
        if changed(options.execution):
            found["execution"] = changed(options.execution)
        return found

    def canary_options(self, _: RuntimeOptions) -> RuntimeOptions:
        """On the GPU: a DLA does not compute in FP32, and shares the board's clocks and heat with it."""
        return RuntimeOptions(GPU)

    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        """Build in a process of its own; once more with a smaller workspace where memory was short."""
        self._require_possible(options)
        model = output.with_suffix(".onnx")
        model.write_bytes(onnx)
        try:
            explanation = self._built_with_what_memory_there_is(model, options, output)
        finally:
            model.unlink()
        explanation_path(output).write_text(json.dumps(explanation), encoding="utf-8")

    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        """Load onto the GPU.

        Raises:
            AgentError: as :meth:`compile`; ``no-device`` where there is no GPU.
        """
        self._require_possible(options)
        loaded = LoadedEngine(self._library, engine, options)
        return TensorRtEngine(loaded, self._gpu(options), options)

    @abstractmethod
    def _require_possible(self, options: RuntimeOptions) -> None:
        """Raises AgentError when the library cannot do what the options say."""

    def _built_with_what_memory_there_is(self, model: Path, options: RuntimeOptions, output: Path) -> Message:
        start = time.monotonic()
        try:
            return self._build(model, options, output)
        except AgentError as error:
            if error.kind != ErrorKind.OUT_OF_MEMORY:
                raise
            short = error
        smaller = _with_smaller_workspace(options, time.monotonic() - start)
        try:
            explanation = self._build(model, smaller, output)
        except AgentError as error:
            raise AgentError(
                error.kind,
                "%s; and once more with a workspace of %s MiB: %s"
                % (short.message, smaller.build.workspace_mib, error.message),
            ) from error
        return dict(explanation, built_after=short.message)

    def _build(self, model: Path, options: RuntimeOptions, output: Path) -> Message:
        task = {"library": self.module, "onnx": str(model), "output": str(output), "options": options.as_record()}
        if self.times_kernels:
            task["caches"] = str(output.parent)
        return run_apart("the build", task, options.build.timeout_s, options.build.memory_mib)

    def _gpu(self, options: RuntimeOptions) -> Cuda:
        """The GPU, through a library that has what the options need; once opened, kept."""
        if self._cuda is None or (options.execution.cuda_graph and not self._cuda.graphs):
            self._cuda = open_cuda(graphs=options.execution.cuda_graph)
        return self._cuda


class TensorRtEngine(Engine):
    """An engine in the GPU's memory, every tensor of a context bound to memory of its own."""

    def __init__(self, loaded: LoadedEngine, cuda: Cuda, options: RuntimeOptions) -> None:
        """Takes ``loaded`` over: it is closed when this cannot be made."""
        self._loaded = loaded
        self._cuda = cuda
        try:
            execution = loaded.execution()
            self.inputs, self.outputs = execution.inputs, execution.outputs
            self._run: Optional[CudaRun] = _bound(execution, cuda, options.execution)
        except BaseException:
            loaded.close()
            raise

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy through page-locked memory to the GPU, and wait for it."""
        self._running.upload(arrays)

    def run(self) -> None:
        """Compute once and wait for the end."""
        self._running.run()

    def download(self) -> List[Array]:
        """Copy through page-locked memory to the host, and wait for it."""
        return self._running.download()

    def timed_runs(self, count: int) -> List[int]:
        """Each run's time between two events on the GPU."""
        return self._running.timed_runs(count)

    def timed_transfers(self, arrays: Sequence[Array], count: int) -> Tuple[List[int], List[int]]:
        """Times of the copies between events on the GPU."""
        return self._running.timed_transfers(arrays, count)

    def queries(self, knobs: TrtexecKnobs, inputs: Sequence[Array]) -> Queries:
        """Queries in flight on the GPU, each stream with a context of its own."""
        cuda = self._cuda if self._cuda.graphs or not knobs.useCudaGraph else open_cuda(graphs=True)
        runs = [_bound(self._loaded.execution(), cuda, ExecutionOptions()) for _ in range(knobs.infStreams)]
        return CudaQueries(cuda, runs, knobs, inputs)

    def close(self) -> None:
        """Give graph, stream and buffers back, then the contexts, then the engine."""
        self._run = None
        self._loaded.close()

    @property
    def _running(self) -> CudaRun:
        if self._run is None:
            raise ValueError("the engine was closed")
        return self._run


def _bound(execution: Execution, cuda: Cuda, options: ExecutionOptions) -> CudaRun:
    """A context with memory for each of its tensors."""
    inputs, outputs = ([Binding.of(cuda, tensor) for tensor in part] for part in (execution.inputs, execution.outputs))
    for tensor, binding in zip((*execution.inputs, *execution.outputs), (*inputs, *outputs)):
        execution.bind(tensor.name, binding.device.pointer)
    return CudaRun(cuda, lambda stream: execution.enqueue(stream.handle), inputs, outputs, options)


def _with_smaller_workspace(options: RuntimeOptions, spent_s: float) -> RuntimeOptions:
    """A quarter of the limit that was too much, or a small one where there was none; and what time is left."""
    given, timeout_s = options.build.workspace_mib, options.build.timeout_s
    build = replace(
        options.build,
        workspace_mib=_SMALL_WORKSPACE_MIB if given is None else max(1, given // 4),
        timeout_s=None if timeout_s is None else max(0.0, timeout_s - spent_s),
    )
    return replace(options, build=build)
