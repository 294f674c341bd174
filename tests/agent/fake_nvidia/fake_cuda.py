"""A GPU of the host's own memory, with CUDA's rules: what is freed is gone, and work is done when it is waited for."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import numpy as np

from hwnas.agent import cuda
from hwnas.agent.arrays import Array
from hwnas.agent.cuda import Cuda, DeviceBuffer, Event, GpuFacts, Graph, PinnedArray, Stream

BUFFERS: dict[int, int] = {}
"""Pointers of the device's memory to sizes."""
STREAMS: dict[int, FakeStream] = {}


class FakeStream(Stream):
    def __init__(self) -> None:
        handle = len(STREAMS) + 1000
        super().__init__(lambda: STREAMS.pop(handle, None))
        self._handle = handle
        self.work: list[Callable[[], None]] = []
        self.capturing = False
        STREAMS[handle] = self

    @property
    def handle(self) -> int:
        return self._handle

    def synchronize(self) -> None:
        assert not self.capturing, "waiting is not allowed while capturing"
        while self.work:
            self.work.pop(0)()

    def wait_for(self, event: Event) -> None:
        self.work.append(event.synchronize)

    def delay(self, milliseconds: float) -> None:
        pass

    def begin_capture(self) -> None:
        assert not self.work
        self.capturing = True

    def end_capture(self) -> Graph:
        self.capturing = False
        work, self.work = self.work, []
        return FakeGraph(work)


class FakeGraph(Graph):
    def __init__(self, work: list[Callable[[], None]]) -> None:
        super().__init__(lambda: None)
        self._work = work

    def launch(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        stream.work += self._work


class FakeEvent(Event):
    clock = 0

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self._stream: FakeStream | None = None
        self.time = 0

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        self._stream = stream
        stream.work.append(self._reached)

    def synchronize(self) -> None:
        assert self._stream is not None, "an event that was never recorded"
        self._stream.synchronize()

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, FakeEvent)
        return float(self.time - earlier.time)

    def _reached(self) -> None:
        FakeEvent.clock += 1
        self.time = FakeEvent.clock


class FakeCuda(Cuda):
    name = "fake"
    graphs = True

    def device(self) -> GpuFacts:
        return GpuFacts("Fake GPU", (8, 6), 16, 8 << 30, True, "12.6", "12.6")

    def memory(self) -> tuple[int, int]:
        return 4 << 30, 8 << 30

    def spin(self, spinning: bool) -> None:
        pass

    def allocate(self, nbytes: int) -> DeviceBuffer:
        memory = ctypes.create_string_buffer(nbytes)
        pointer = ctypes.addressof(memory)
        BUFFERS[pointer] = nbytes

        def release() -> None:
            BUFFERS.pop(pointer)
            memory.raw = bytes(nbytes)

        return DeviceBuffer(pointer, nbytes, release)

    def pinned(self, shape: Sequence[int], dtype: str) -> PinnedArray:
        return PinnedArray(np.zeros(tuple(shape), dtype), lambda: None)

    def stream(self) -> Stream:
        return FakeStream()

    def event(self, blocking: bool) -> Event:
        return FakeEvent()

    def _copy_in(self, buffer: DeviceBuffer, array: Array, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        stream.work.append(lambda: ctypes.memmove(buffer.pointer, array.ctypes.data, array.nbytes) and None)

    def _copy_out(self, array: Array, buffer: DeviceBuffer, stream: Stream) -> None:
        assert isinstance(stream, FakeStream)
        stream.work.append(lambda: ctypes.memmove(array.ctypes.data, buffer.pointer, array.nbytes) and None)


def be_the_only_gpu() -> None:
    """Let the agent find this GPU and no other."""
    cuda.LIBRARIES.clear()
    cuda.LIBRARIES["fake"] = f"{__name__}:FakeCuda"
