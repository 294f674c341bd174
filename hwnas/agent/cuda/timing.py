"""Runs of an engine on the GPU: page-locked buffers, one stream, events around compute and around the transfers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from ..arrays import Array
from ..options import ExecutionOptions
from ..protocol import AgentError, ErrorKind
from ..runtimes.base import TensorInfo
from .base import Cuda, DeviceBuffer, Graph, PinnedArray, Stream

Enqueue = Callable[[Stream], None]
"""Puts one inference into a stream, from and to the engine's buffers."""


@dataclass(frozen=True)
class Binding:
    """A tensor in both memories."""

    host: PinnedArray
    device: DeviceBuffer

    @classmethod
    def of(cls, cuda: Cuda, tensor: TensorInfo) -> "Binding":
        """Memory for a tensor, zeros on the host.

        Raises:
            AgentError: ``out-of-memory``.
        """
        host = cuda.pinned(tensor.shape, tensor.dtype)
        return cls(host, cuda.allocate(max(host.array.nbytes, 1)))


class CudaRun:
    """What an engine on a GPU needs to be one: transfers, runs, and the times of both."""

    def __init__(
        self,
        cuda: Cuda,
        enqueue: Enqueue,
        inputs: Sequence[Binding],
        outputs: Sequence[Binding],
        options: ExecutionOptions,
    ) -> None:
        """
        Args:
            cuda: the GPU.
            enqueue: puts one inference into a stream; it must be possible to capture it where the options say so.
            inputs: in the model's order, as the outputs.
            outputs: what the inference writes.
            options: graph, spinning, and whether a run copies in and out.

        Raises:
            AgentError: ``bad-request`` when a graph is asked for and ``cuda`` has none.
        """
        if options.cuda_graph:
            require_graphs(cuda)
        self._cuda = cuda
        self.enqueue = enqueue
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._options = options
        self._stream = cuda.stream()
        self._start, self._end, self._done = (cuda.event(blocking=not options.spin_wait) for _ in range(3))
        self._graph: Optional[Graph] = None
        if options.spin_wait:
            cuda.spin(True)

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy ``arrays`` in, one for each input, and wait."""
        self._fill(arrays)
        self._timed(self.copy_in)

    def run(self) -> None:
        """Compute once and wait."""
        self._timed_run()

    def download(self) -> List[Array]:
        """Copies of the outputs, after the copy to the host."""
        self._timed(self.copy_out)
        return [binding.host.array.copy() for binding in self.outputs]

    def timed_runs(self, count: int) -> List[int]:
        """Compute ``count`` times, each waited for, and give the time in ns between events around each."""
        return [self._timed_run() for _ in range(count)]

    def timed_transfers(self, arrays: Sequence[Array], count: int) -> Tuple[List[int], List[int]]:
        """Times in ns, between events, of ``count`` copies of all inputs in and of all outputs out."""
        self._fill(arrays)
        copies = [(self._timed(self.copy_in), self._timed(self.copy_out)) for _ in range(count)]
        return [ns for ns, _ in copies], [ns for _, ns in copies]

    def copy_in(self, stream: Stream) -> None:
        """Enqueue the copies of all inputs."""
        for binding in self.inputs:
            self._cuda.copy_in(binding.device, binding.host.array, stream)

    def copy_out(self, stream: Stream) -> None:
        """Enqueue the copies of all outputs."""
        for binding in self.outputs:
            self._cuda.copy_out(binding.host.array, binding.device, stream)

    def _timed_run(self) -> int:
        """One run; the copies that belong to it are not in its time."""
        if self._options.cuda_graph and self._graph is None:
            self._graph = warm_capture(self.enqueue, self._stream)
        if self._options.transfers:
            self.copy_in(self._stream)
        self._start.record(self._stream)
        self._launch()
        self._end.record(self._stream)
        if self._options.transfers:
            self.copy_out(self._stream)
        return self._elapsed_ns()

    def _timed(self, work: Enqueue) -> int:
        self._start.record(self._stream)
        work(self._stream)
        self._end.record(self._stream)
        return self._elapsed_ns()

    def _elapsed_ns(self) -> int:
        """Wait until all is done; gives the time between start and end."""
        self._done.record(self._stream)
        self._done.synchronize()
        return round(self._end.milliseconds_since(self._start) * 1e6)

    def _launch(self) -> None:
        if self._graph is None:
            self.enqueue(self._stream)
        else:
            self._graph.launch(self._stream)

    def _fill(self, arrays: Sequence[Array]) -> None:
        if len(arrays) != len(self.inputs):
            raise ValueError("the engine takes %d inputs, found %d" % (len(self.inputs), len(arrays)))
        for binding, array in zip(self.inputs, arrays):
            if binding.host.array.shape != array.shape:
                raise ValueError("an input must be %s, found %s" % (binding.host.array.shape, array.shape))
            np.copyto(binding.host.array, array, casting="no")


def require_graphs(cuda: Cuda) -> None:
    """Raises AgentError, ``bad-request``, when the library has no CUDA graphs."""
    if not cuda.graphs:
        raise AgentError(ErrorKind.BAD_REQUEST, "%s has no CUDA graphs; install cuda-python, or do without" % cuda.name)


def warm_capture(enqueue: Enqueue, stream: Stream) -> Graph:
    """The graph of what ``enqueue`` does, after it was done once: a library's first run sets things up.

    Raises:
        AgentError: ``bad-request`` when it does something that cannot be captured; the stream then works again.
    """
    enqueue(stream)
    stream.synchronize()
    stream.begin_capture()
    try:
        enqueue(stream)
    except BaseException:
        with suppress(AgentError):  # what was captured so far is in order or not, but nobody wants it
            stream.end_capture().free()
        raise
    try:
        return stream.end_capture()
    except AgentError as error:
        raise AgentError(
            ErrorKind.BAD_REQUEST, "this engine cannot be captured as a CUDA graph (%s); run it without" % error.message
        ) from error
