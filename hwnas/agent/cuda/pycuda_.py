"""CUDA through PyCUDA, which JetPack 5 with its Python 3.8 can have.  It knows no CUDA graphs."""

from __future__ import annotations

import ctypes
import importlib
import threading
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator, List, Sequence, Tuple

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from .base import Cuda, DeviceBuffer, Event, GpuFacts, Graph, PinnedArray, Stream, cuda_failure, version_text

_NON_BLOCKING = 1
_SCHEDULE_SPIN, _SCHEDULE_BLOCKING_SYNC = 1, 4
_DRIVER = "libcuda.so.1"
_this_thread = threading.local()
_NO_GRAPHS = "PyCUDA has no CUDA graphs; install cuda-python for them"


def open_pycuda() -> Cuda:
    """The GPU in its primary context, which libcudart and torch use as well, current in this thread until it ends.

    Raises:
        ImportError: PyCUDA is not installed, or there is no driver.
        AgentError: ``no-device``.
    """
    driver = importlib.import_module("pycuda.driver")
    try:
        device = _device_of_this_thread(driver)
    except (driver.Error, RuntimeError) as error:
        raise AgentError(ErrorKind.NO_DEVICE, " ".join(str(error).split())) from error
    return PyCuda(driver, device)


def _device_of_this_thread(driver: Any) -> Any:
    if threading.current_thread() is threading.main_thread():
        return importlib.import_module("pycuda.autoprimaryctx").device
    if not hasattr(_this_thread, "entered"):
        _this_thread.entered = _Entered(driver)
    return _this_thread.entered.device


class _Entered:
    """The primary context, current in one thread; PyCUDA aborts the process if it still is when the thread ends."""

    def __init__(self, driver: Any) -> None:
        driver.init()
        self.device = importlib.import_module("pycuda.tools").make_default_context(self._push)
        self._pop = driver.Context.pop

    @staticmethod
    def _push(device: Any) -> Any:
        device.retain_primary_context().push()
        return device

    def __del__(self) -> None:
        self._pop()  # the thread lets go of what is its own just before it ends


class PyCuda(Cuda):
    """The GPU of the context that is current in this thread."""

    name = "pycuda"
    graphs = False

    def __init__(self, driver: Any, device: Any) -> None:
        """``driver`` is the module pycuda.driver, ``device`` one of its ``Device``."""
        self._driver = driver
        self._device = device

    def device(self) -> GpuFacts:
        """By the driver API."""
        attribute = self._driver.device_attribute
        major, minor = self._device.compute_capability()
        return GpuFacts(
            name=self._device.name(),
            compute_capability=(major, minor),
            multiprocessors=int(self._device.get_attribute(attribute.MULTIPROCESSOR_COUNT)),
            memory_bytes=int(self._device.total_memory()),
            integrated=bool(self._device.get_attribute(attribute.INTEGRATED)),
            runtime_version=".".join(map(str, self._driver.get_version()[:2])),
            driver_version=version_text(self._driver.get_driver_version()),
        )

    def memory(self) -> Tuple[int, int]:
        """By ``cuMemGetInfo``."""
        with _explained(self._driver):
            free, total = self._driver.mem_get_info()
        return int(free), int(total)

    def spin(self, spinning: bool) -> None:
        """By the primary context's flags, which PyCUDA leaves alone: the driver itself is asked."""
        library = ctypes.CDLL(_DRIVER)
        device = ctypes.c_int()
        _driver_call(library, "cuCtxGetDevice", ctypes.byref(device))
        flags = ctypes.c_uint(_SCHEDULE_SPIN if spinning else _SCHEDULE_BLOCKING_SYNC)
        _driver_call(library, "cuDevicePrimaryCtxSetFlags_v2", device, flags)

    def allocate(self, nbytes: int) -> DeviceBuffer:
        """By ``cuMemAlloc``."""
        with _explained(self._driver):
            allocation = self._driver.mem_alloc(nbytes)
        return DeviceBuffer(int(allocation), nbytes, partial(_free, self._driver, allocation))

    def pinned(self, shape: Sequence[int], dtype: str) -> PinnedArray:
        """By ``cuMemHostAlloc``."""
        with _explained(self._driver):
            array: Array = self._driver.pagelocked_empty(tuple(shape), dtype)
        array[...] = 0
        return PinnedArray(array, partial(_free, self._driver, array.base))

    def stream(self) -> Stream:
        """By ``cuStreamCreate``."""
        return _Stream(self._driver)

    def event(self, blocking: bool) -> Event:
        """By ``cuEventCreate``."""
        return _Event(self._driver, blocking)

    def _copy_in(self, buffer: DeviceBuffer, array: Array, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver):
            self._driver.memcpy_htod_async(buffer.pointer, array, stream.wrapped)

    def _copy_out(self, array: Array, buffer: DeviceBuffer, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver):
            self._driver.memcpy_dtoh_async(array, buffer.pointer, stream.wrapped)


class _Stream(Stream):
    def __init__(self, driver: Any) -> None:
        self._driver = driver
        with _explained(driver):
            # PyCUDA destroys a stream or an event when nobody holds it: this list alone does.
            self._held: List[Any] = [driver.Stream(_NON_BLOCKING)]
        super().__init__(self._held.clear)

    @property
    def wrapped(self) -> Any:
        return self._held[0]

    @property
    def handle(self) -> int:
        return int(self.wrapped.handle)

    def synchronize(self) -> None:
        with _explained(self._driver):
            self.wrapped.synchronize()

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _Event)
        with _explained(self._driver):
            self.wrapped.wait_for_event(event.wrapped)

    def delay(self, milliseconds: float) -> None:
        raise AgentError(
            ErrorKind.BAD_REQUEST, "PyCUDA cannot delay a stream by %g ms; install cuda-python for that" % milliseconds
        )

    def begin_capture(self) -> None:
        raise AgentError(ErrorKind.BAD_REQUEST, _NO_GRAPHS)

    def end_capture(self) -> Graph:
        raise AgentError(ErrorKind.BAD_REQUEST, _NO_GRAPHS)


class _Event(Event):
    def __init__(self, driver: Any, blocking: bool) -> None:
        self._driver = driver
        flags = driver.event_flags
        with _explained(driver):
            self._held: List[Any] = [driver.Event(flags.BLOCKING_SYNC if blocking else flags.DEFAULT)]
        super().__init__(self._held.clear)

    @property
    def wrapped(self) -> Any:
        return self._held[0]

    def record(self, stream: Stream) -> None:
        assert isinstance(stream, _Stream)
        with _explained(self._driver):
            self.wrapped.record(stream.wrapped)

    def synchronize(self) -> None:
        with _explained(self._driver):
            self.wrapped.synchronize()

    def milliseconds_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        with _explained(self._driver):
            return float(self.wrapped.time_since(earlier.wrapped))


@contextmanager
def _explained(driver: Any) -> Iterator[None]:
    """Turn PyCUDA's errors into ours; they say the function and the reason in words."""
    try:
        yield
    except driver.MemoryError as error:
        raise cuda_failure(_function(error), "CUDA_ERROR_OUT_OF_MEMORY") from error
    except driver.Error as error:
        raise cuda_failure(_function(error), str(error).split("failed: ", 1)[-1]) from error


def _function(error: Exception) -> str:
    return str(error).split(" failed", 1)[0]


def _free(driver: Any, allocation: Any) -> None:
    with _explained(driver):
        allocation.free()


def _driver_call(library: ctypes.CDLL, function: str, *arguments: Any) -> None:
    error = getattr(library, function)(*arguments)
    if error:
        raise cuda_failure(function, "error %d" % error)
