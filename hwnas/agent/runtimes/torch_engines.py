"""Programs of PyTorch as engines, on the CPU and on a GPU."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import numpy as np
import torch

from ..arrays import Array
from ..node_model import NodeModel
from .base import Engine, RuntimeOptions, TensorInfo

COMPILED = ("cpucompile", "cudacompile")
CUDA_GRAPH = "cudagraph"
_RUNS_BEFORE_CAPTURE = 3
"""cuDNN chooses its algorithms and memory is allocated before a graph is captured."""

Program = Callable[..., Tuple[torch.Tensor, ...]]


class TorchEngine(Engine):
    """A program on the CPU."""

    device = "cpu"

    def __init__(self, program: torch.nn.Module, model: NodeModel, options: RuntimeOptions) -> None:
        self._options = options
        self.inputs, self.outputs = _infos(model.inputs), _infos(model.outputs)
        self._program: Program = program.to(self.device)
        self._arguments = [torch.zeros(shape, device=self.device) for shape in model.inputs.values()]
        self._results: Tuple[torch.Tensor, ...] = ()
        if options.provider in COMPILED:
            torch.set_num_threads(options.threads)  # the number is part of the code that is generated
            self._program = torch.compile(program, fullgraph=True, dynamic=False)
        self._settle()
        self.run()

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy into the program's arguments."""
        for argument, array in zip(self._arguments, arrays):
            argument.copy_(_tensor(array))

    def run(self) -> None:
        """Compute once."""
        with self._computing():
            self._results = self._program(*self._arguments)

    def download(self) -> List[Array]:
        """Copies of what the program gave."""
        return [value.numpy().copy() for value in self._results]

    def timed_runs(self, count: int) -> List[int]:
        """Each run's time by the host's clock."""
        program, arguments, clock = self._program, self._arguments, time.perf_counter_ns
        durations = []
        with self._computing():
            for _ in range(count):
                start = clock()
                self._results = program(*arguments)
                durations.append(clock() - start)
        return durations

    def _settle(self) -> None:
        """Wait until weights and arguments are where they belong."""

    @contextmanager
    def _computing(self) -> Iterator[None]:
        # The number of threads is the process's; the canary beside this engine has another.
        if torch.get_num_threads() != self._options.threads:
            torch.set_num_threads(self._options.threads)
        with torch.inference_mode():
            yield


class CudaTorchEngine(TorchEngine):
    """A program on the GPU, on a stream of its own, timed by CUDA events."""

    device = "cuda"

    def __init__(self, program: torch.nn.Module, model: NodeModel, options: RuntimeOptions) -> None:
        _set_fp32_exact()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._started, self._ended = (_event(options.execution.spin_wait) for _ in range(2))
        self._pinned_in = [_pinned(shape) for shape in model.inputs.values()]
        self._pinned_out = [_pinned(shape) for shape in model.outputs.values()]
        super().__init__(program, model, options)
        if options.provider == CUDA_GRAPH or options.execution.cuda_graph:
            self._capture()

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy through page-locked memory to the GPU, and wait for it."""
        self._fill(arrays)
        with self._computing():
            self._nanoseconds(self._copy_in)

    def run(self) -> None:
        """Compute once and wait for the end."""
        super().run()
        self._stream.synchronize()

    def download(self) -> List[Array]:
        """Copy through page-locked memory to the host, and wait for it."""
        with self._computing():
            self._nanoseconds(self._copy_out)
        return [pinned.numpy().copy() for pinned in self._pinned_out]

    def timed_runs(self, count: int) -> List[int]:
        """Each run's time between two events on the GPU, each run waited for."""
        with self._computing():
            return [self._nanoseconds(self._compute) for _ in range(count)]

    def timed_transfers(self, arrays: Sequence[Array], count: int) -> Tuple[List[int], List[int]]:
        """Times between events of ``count`` copies of all inputs in and of all outputs out."""
        self._fill(arrays)
        with self._computing():
            copies = [(self._nanoseconds(self._copy_in), self._nanoseconds(self._copy_out)) for _ in range(count)]
        return [ns for ns, _ in copies], [ns for _, ns in copies]

    def _settle(self) -> None:
        torch.cuda.synchronize()  # they were put there by another stream, for which this one's work does not wait

    def _nanoseconds(self, enqueue: Callable[[], None]) -> int:
        self._started.record(self._stream)
        enqueue()
        self._ended.record(self._stream)
        self._ended.synchronize()
        milliseconds: float = self._started.elapsed_time(self._ended)
        return round(milliseconds * 1e6)

    def _compute(self) -> None:
        self._results = self._program(*self._arguments)

    def _fill(self, arrays: Sequence[Array]) -> None:
        for pinned, array in zip(self._pinned_in, arrays):
            pinned.copy_(_tensor(array))

    def _copy_in(self) -> None:
        for argument, pinned in zip(self._arguments, self._pinned_in):
            argument.copy_(pinned, non_blocking=True)

    def _copy_out(self) -> None:
        for pinned, value in zip(self._pinned_out, self._results):
            pinned.copy_(value, non_blocking=True)

    def _capture(self) -> None:
        """Put a graph's launch in the program's place."""
        for _ in range(_RUNS_BEFORE_CAPTURE):
            self.run()
        graph = torch.cuda.CUDAGraph()
        with self._computing(), torch.cuda.graph(graph, stream=self._stream):
            results = self._program(*self._arguments)

        def launch(*_: torch.Tensor) -> Tuple[torch.Tensor, ...]:
            graph.replay()
            return results

        self._program = launch

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with super()._computing(), torch.cuda.stream(self._stream):
            yield


def _pinned(shape: Tuple[int, ...]) -> torch.Tensor:
    """Page-locked memory of the host, from and to which copies need not wait."""
    return torch.zeros(shape, pin_memory=True)


def _event(spinning: bool) -> torch.cuda.Event:
    """One that is timed; to wait for it the host spins or sleeps."""
    return torch.cuda.Event(enable_timing=True, blocking=not spinning)  # type: ignore[no-untyped-call]


def _set_fp32_exact() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def _infos(shapes: Any) -> List[TensorInfo]:
    return [TensorInfo(name, "float32", shape) for name, shape in shapes.items()]


def _tensor(array: Array) -> torch.Tensor:
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy())
