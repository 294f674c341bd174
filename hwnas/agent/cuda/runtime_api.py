"""CUDA by its runtime API (libcudart), called by name: what ctypes and cuda-python have in common."""

from __future__ import annotations

import ctypes
import time
from functools import partial
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from .base import Cuda, DeviceBuffer, Event, GpuFacts, Graph, PinnedArray, Stream, version_text

Call = Callable[..., Any]
"""Calls a function of the runtime API by name with its inputs; gives its outputs (none, one, or a tuple).

Handles and pointers go in and out as whole numbers.  Raises what :func:`.base.cuda_failure` makes of an error.
"""

_DEVICE = 0  # the first that CUDA_VISIBLE_DEVICES leaves
_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR, _MULTIPROCESSORS, _INTEGRATED = 75, 76, 16, 18
_SCHEDULE_SPIN, _SCHEDULE_BLOCKING_SYNC = 1, 4
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2
_EVENT_DEFAULT, _EVENT_BLOCKING_SYNC = 0, 1
_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class RuntimeApiCuda(Cuda):
    """The GPU, and the current thread's device set to it."""

    graphs = True

    def __init__(self, name: str, call: Call) -> None:
        """Raises AgentError, ``no-device`` when the driver is missing, too old, or knows no GPU."""
        self.name = name
        self._call = call
        try:
            count = call("cudaGetDeviceCount")
        except AgentError as error:
            raise AgentError(ErrorKind.NO_DEVICE, error.message) from error
        if count < 1:
            raise AgentError(ErrorKind.NO_DEVICE, "CUDA sees no GPU")
        call("cudaSetDevice", _DEVICE)

    def device(self) -> GpuFacts:
        """By attributes: the layout of ``cudaDeviceProp`` is another in every version but for the name."""
        attribute = partial(self._call, "cudaDeviceGetAttribute")
        return GpuFacts(
            name=self._call("cudaGetDeviceProperties", _DEVICE),
            compute_capability=(
                attribute(_COMPUTE_CAPABILITY_MAJOR, _DEVICE),
                attribute(_COMPUTE_CAPABILITY_MINOR, _DEVICE),
            ),
            multiprocessors=attribute(_MULTIPROCESSORS, _DEVICE),
            memory_bytes=self.memory()[1],
            integrated=bool(attribute(_INTEGRATED, _DEVICE)),
            runtime_version=version_text(self._call("cudaRuntimeGetVersion")),
            driver_version=version_text(self._call("cudaDriverGetVersion")),
        )

    def memory(self) -> Tuple[int, int]:
        """By ``cudaMemGetInfo``."""
        free, total = self._call("cudaMemGetInfo")
        return free, total

    def spin(self, spinning: bool) -> None:
        """By the device's flags, which every context of the process shares."""
        self._call("cudaSetDeviceFlags", _SCHEDULE_SPIN if spinning else _SCHEDULE_BLOCKING_SYNC)

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """By ``cudaMalloc``."""
        pointer = self._call("cudaMalloc", nbytes)
        return DeviceBuffer(pointer, nbytes, partial(self._call, "cudaFree", pointer))

    def pinned(self, shape: Sequence[int], dtype: str) -> PinnedArray:
        """By ``cudaHostAlloc``."""
        kind = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        pointer = self._call("cudaHostAlloc", max(nbytes, 1), 0)
        ctypes.memset(pointer, 0, nbytes)
        memory = (ctypes.c_char * nbytes).from_address(pointer)
        array = np.ndarray(tuple(shape), kind, memoryview(memory))
        return PinnedArray(array, partial(self._call, "cudaFreeHost", pointer))

    def stream(self) -> Stream:
        """By ``cudaStreamCreateWithFlags``."""
        return _Stream(self._call)

    def event(self, blocking: bool) -> Event:
        """By ``cudaEventCreateWithFlags``."""
        return _Event(self._call, blocking)

    def _copy_in(self, buffer: DeviceBuffer, array: Array, stream: Stream) -> None:
        self._call("cudaMemcpyAsync", buffer.pointer, array.ctypes.data, array.nbytes, _HOST_TO_DEVICE, stream.handle)

    def _copy_out(self, array: Array, buffer: DeviceBuffer, stream: Stream) -> None:
        self._call("cudaMemcpyAsync", array.ctypes.data, buffer.pointer, array.nbytes, _DEVICE_TO_HOST, stream.handle)


class _Stream(Stream):
    def __init__(self, call: Call) -> None:
        self._call = call
        self._handle: int = call("cudaStreamCreateWithFlags", _STREAM_NON_BLOCKING)
        self._host_functions: List[Any] = []
        super().__init__(partial(call, "cudaStreamDestroy", self._handle))

    @property
    def handle(self) -> int:
        return self._handle

    def synchronize(self) -> None:
        self._call("cudaStreamSynchronize", self._handle)

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _Event)
        self._call("cudaStreamWaitEvent", self._handle, event.handle, 0)

    def delay(self, milliseconds: float) -> None:
        function = _HostFunction(lambda _: time.sleep(milliseconds / 1e3))
        self._host_functions.append(function)  # CUDA calls it from a thread of its own, later
        address = ctypes.cast(function, ctypes.c_void_p).value
        self._call("cudaLaunchHostFunc", self._handle, address, 0)

    def begin_capture(self) -> None:
        self._call("cudaStreamBeginCapture", self._handle, _CAPTURE_THREAD_LOCAL)

    def end_capture(self) -> Graph:
        graph = self._call("cudaStreamEndCapture", self._handle)
        try:
            # The same in CUDA 11.4 to 13; cudaGraphInstantiate has other arguments from CUDA 12 on.
            return _Graph(self._call, self._call("cudaGraphInstantiateWithFlags", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)


class _Event(Event):
    def __init__(self, call: Call, blocking: bool) -> None:
        self._call = call
        self.handle: int = call("cudaEventCreateWithFlags", _EVENT_BLOCKING_SYNC if blocking else _EVENT_DEFAULT)
        super().__init__(partial(call, "cudaEventDestroy", self.handle))

    def record(self, stream: Stream) -> None:
        self._call("cudaEventRecord", self.handle, stream.handle)

    def synchronize(self) -> None:
        self._call("cudaEventSynchronize", self.handle)

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        elapsed: float = self._call("cudaEventElapsedTime", earlier.handle, self.handle)
        return elapsed


class _Graph(Graph):
    def __init__(self, call: Call, handle: int) -> None:
        self._call = call
        self._handle = handle
        super().__init__(partial(call, "cudaGraphExecDestroy", handle))

    def launch(self, stream: Stream) -> None:
        self._call("cudaGraphLaunch", self._handle, stream.handle)
