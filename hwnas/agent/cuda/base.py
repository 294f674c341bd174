"""CUDA as an engine needs it: memory, one stream, events, graphs, whichever library reaches the driver.

A new way to CUDA is a new file here and one line in :data:`hwnas.agent.cuda.LIBRARIES`; tests/conformance holds the
suite that it must pass.  Everything here belongs to the thread that made it.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Callable, Dict, Optional, Sequence, Tuple, Type, TypeVar

from ..arrays import Array
from ..protocol import AgentError, ErrorKind

_OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY")

Self = TypeVar("Self", bound="Resource")


@dataclass(frozen=True)
class GpuFacts:
    """The GPU that CUDA sees first."""

    name: str
    compute_capability: Tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    integrated: bool
    """Whether it shares the host's memory, as on a Jetson."""
    runtime_version: str
    """Of CUDA as the library that reaches it was built, such as ``12.6``."""
    driver_version: str
    """The newest CUDA that the driver knows."""

    def as_record(self) -> Dict[str, Any]:
        """For the replies."""
        return asdict(self)


class Resource:
    """Something of CUDA's that is given back once: by :meth:`free`, or when nobody holds it any more.

    What is left at the end of the process goes with the process.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        """``release`` gives it back; it must not hold the resource itself."""
        self._finalizer = weakref.finalize(self, release)
        # Libraries leave the context at exit in an order of their own; the driver then takes everything back.
        self._finalizer.atexit = False

    def free(self) -> None:
        """Give it back; a second call does nothing."""
        self._finalizer()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.free()


class DeviceBuffer(Resource):
    """Memory of the GPU."""

    def __init__(self, pointer: int, nbytes: int, release: Callable[[], None]) -> None:
        super().__init__(release)
        self.pointer = pointer
        self.nbytes = nbytes


class PinnedArray(Resource):
    """An array in page-locked memory of the host; after :meth:`free` nobody may touch ``array`` or a view of it."""

    def __init__(self, array: Array, release: Callable[[], None]) -> None:
        super().__init__(release)
        self.array = array


class Graph(Resource, ABC):
    """Work captured from a stream, launched as one piece."""

    @abstractmethod
    def launch(self, stream: "Stream") -> None:
        """Enqueue it."""


class Stream(Resource, ABC):
    """A queue of work that does not wait for the default stream."""

    @property
    @abstractmethod
    def handle(self) -> int:
        """The ``cudaStream_t``, which other libraries take."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all that was enqueued is done."""

    @abstractmethod
    def wait_for(self, event: "Event") -> None:
        """Let what is enqueued later begin only when ``event``, as recorded so far, is reached."""

    @abstractmethod
    def delay(self, milliseconds: float) -> None:
        """Let what is enqueued later begin only after a while, in which the host can run ahead.

        Raises:
            AgentError: ``bad-request`` where the library cannot.
        """

    @abstractmethod
    def begin_capture(self) -> None:
        """From now on record what this thread enqueues instead of doing it.

        Raises:
            AgentError: ``bad-request`` where :attr:`Cuda.graphs` is false.
        """

    @abstractmethod
    def end_capture(self) -> Graph:
        """What was recorded, ready to launch; the stream then works again, even when this raises."""


class Event(Resource, ABC):
    """A point in a stream, with the GPU's time at which it was reached."""

    @abstractmethod
    def record(self, stream: Stream) -> None:
        """Let it be reached after all that is in the stream now."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until it is reached."""

    @abstractmethod
    def milliseconds_since(self, earlier: "Event") -> float:
        """The time between two events that were reached, resolved to about half a microsecond."""


class Cuda(ABC):
    """One GPU and its primary context, shared with whatever else uses CUDA in this process."""

    name: str
    graphs: bool
    """Whether this library has CUDA graphs."""

    @abstractmethod
    def device(self) -> GpuFacts:
        """What is fixed about the GPU."""

    @abstractmethod
    def memory(self) -> Tuple[int, int]:
        """Bytes free, and bytes in all."""

    @abstractmethod
    def spin(self, spinning: bool) -> None:
        """Whether the host waits for the GPU at full load, which answers soonest, or asleep.

        For every later wait but that for an event made with ``blocking``, which is always asleep.
        """

    @abstractmethod
    def allocate(self, nbytes: int) -> DeviceBuffer:
        """``nbytes`` of the GPU's memory, at least 1.

        Raises:
            AgentError: ``out-of-memory``.
        """

    @abstractmethod
    def pinned(self, shape: Sequence[int], dtype: str) -> PinnedArray:
        """An array of zeros in page-locked memory.

        Raises:
            AgentError: ``out-of-memory``.
        """

    @abstractmethod
    def stream(self) -> Stream:
        """A new stream."""

    @abstractmethod
    def event(self, blocking: bool) -> Event:
        """A new event; with ``blocking`` the host sleeps while it waits for it, spinning or not."""

    def copy_in(self, buffer: DeviceBuffer, array: Array, stream: Stream) -> None:
        """Enqueue the copy of ``array`` to the start of ``buffer``; both must live until it is done.

        Raises:
            ValueError: ``array`` is not contiguous or larger than ``buffer``.
        """
        _require_fit(buffer, array)
        if array.nbytes:
            self._copy_in(buffer, array, stream)

    def copy_out(self, array: Array, buffer: DeviceBuffer, stream: Stream) -> None:
        """Enqueue the copy from the start of ``buffer`` that fills ``array``; both must live until it is done.

        Raises:
            ValueError: ``array`` is not contiguous, cannot be written, or is larger than ``buffer``.
        """
        _require_fit(buffer, array)
        if not array.flags.writeable:
            raise ValueError("an array that cannot be written takes nothing from the GPU")
        if array.nbytes:
            self._copy_out(array, buffer, stream)

    @abstractmethod
    def _copy_in(self, buffer: DeviceBuffer, array: Array, stream: Stream) -> None:
        """:meth:`copy_in`, checked."""

    @abstractmethod
    def _copy_out(self, array: Array, buffer: DeviceBuffer, stream: Stream) -> None:
        """:meth:`copy_out`, checked."""


def cuda_failure(function: str, error_name: str) -> AgentError:
    """What is raised when CUDA's ``function`` gives an error, such as ``cudaErrorIllegalAddress``."""
    if error_name in _OUT_OF_MEMORY:
        return AgentError(
            ErrorKind.OUT_OF_MEMORY, "the GPU, or what may be page-locked, is out of memory (%s)" % error_name
        )
    return AgentError(ErrorKind.DEVICE_FAULT, "CUDA's %s failed with %s" % (function, error_name))


def version_text(number: int) -> str:
    """CUDA's version number as people write it: 12060 is ``12.6``."""
    return "%d.%d" % (number // 1000, number % 1000 // 10)


def _require_fit(buffer: DeviceBuffer, array: Array) -> None:
    if not array.flags.c_contiguous:
        raise ValueError("an array must be contiguous to be copied in one piece")
    if array.nbytes > buffer.nbytes:
        raise ValueError("an array of %d bytes does not fit into %d on the GPU" % (array.nbytes, buffer.nbytes))
