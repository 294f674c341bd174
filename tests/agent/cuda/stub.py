# ruff: noqa: N801, N802, N803, N815 - the names are CUDA's and PyCUDA's
"""The stub of CUDA as the tests see it, and the two Python libraries over it that cannot run without a driver."""

from __future__ import annotations

import ctypes
import enum
import os
import subprocess
import sys
import threading
from ctypes import byref, c_char, c_char_p, c_float, c_int, c_long, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas.agent.cuda import Cuda, cudart_ctypes, open_cuda, pycuda_

SOURCE = Path(__file__).with_name("cuda_stub.c")
PRELOADED = "HWNAS_PRELOADED_CUDA_STUB"
"""Where test_real_pycuda.py says that the stub lies to which PyCUDA itself is bound."""


def compile_stub(directory: Path) -> Path:
    """The stub as ``libcudart.so.13`` and, beside it, as ``libcuda.so.1``."""
    if PRELOADED in os.environ:
        return Path(os.environ[PRELOADED])
    for name in ("libcuda.so.1", "libcudart.so.13"):
        command = ["cc", "-shared", "-fPIC", "-O1", f"-Wl,-soname,{name}", "-o", str(directory / name), str(SOURCE)]
        subprocess.run(command, check=True)
    return directory / "libcudart.so.13"


class Stub:
    """What was called, what is left, and what shall fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.library.stub_log.restype = c_char_p
        self.library.stub_compute.argtypes = [c_void_p, c_void_p, c_void_p, c_size_t, c_long]
        self.library.stub_fail.argtypes = [c_char_p, c_int, c_int]
        self.library.stub_percentile_index.argtypes = [c_float, c_int]

    def calls(self) -> list[str]:
        """The names of the functions called since the log was cleared."""
        return self.library.stub_log().decode().split()

    def clear(self) -> None:
        """Forget the calls, and what shall fail."""
        self.library.stub_clear_log()
        self.fail("", 0)

    def fail(self, name: str, code: int, after: int = 0) -> None:
        """Let the call of ``name`` after ``after`` others fail with ``code``."""
        self.library.stub_fail(name.encode(), code, after)

    @property
    def live(self) -> int:
        """What was made and not given back."""
        return int(self.library.stub_live())

    @property
    def last_error(self) -> int:
        """What ``cudaGetLastError`` would say."""
        return int(self.library.stub_last_error())

    def compute(self, stream: int, target: int, source: int, nbytes: int, ns: int) -> None:
        """Put the doubling of an array of float32 into a stream."""
        assert self.library.stub_compute(stream, target, source, nbytes, ns) == 0


def open_over(stub: Stub, name: str, patch: pytest.MonkeyPatch) -> Cuda:
    """One of the libraries that lead to CUDA, over the stub."""
    install(stub, patch)
    return open_cuda(prefer=name)


def install(stub: Stub, patch: pytest.MonkeyPatch) -> None:
    """Let all of the libraries be there, over the stub."""
    patch.setattr(cudart_ctypes, "_SONAMES", (str(stub.path),))
    patch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda_python(stub))
    if PRELOADED in os.environ:
        return  # PyCUDA itself is here, and bound to the stub
    driver: Any = FakePyCuda(stub)
    patch.setitem(sys.modules, "pycuda.driver", driver)
    context: Any = SimpleNamespace(device=FakeDevice(driver))
    patch.setitem(sys.modules, "pycuda.autoprimaryctx", context)
    tools: Any = SimpleNamespace(make_default_context=lambda maker: maker(FakeDevice(driver)))
    patch.setitem(sys.modules, "pycuda.tools", tools)
    patch.setattr(pycuda_, "_DRIVER", str(stub.path.with_name("libcuda.so.1")))


class _Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalState = 401
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class _Attribute(enum.IntEnum):
    cudaDevAttrMultiProcessorCount = 16
    cudaDevAttrIntegrated = 18
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class _Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class _Mode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class Handle:
    """How the bindings wrap a handle: a class with a number in it."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __int__(self) -> int:
        return self._value


def fake_cuda_python(stub: Stub) -> ModuleType:
    """``cuda.bindings.runtime`` over the stub: each function gives the error and its outputs, as there.

    test_real_cuda_python.py holds names, parameters and enumerations against the real one.
    """
    library = stub.library

    def call(name: str, *arguments: Any) -> _Error:
        return _Error(getattr(library, name)(*arguments))

    def made(name: str, output: Any, *arguments: Any) -> tuple[_Error, Any]:
        error = call(name, byref(output), *arguments)
        return error, None if error else output.value

    def handle(result: tuple[_Error, Any]) -> tuple[_Error, Any]:
        return result[0], None if result[1] is None else Handle(result[1])

    def of(value: Any) -> c_void_p:
        return c_void_p(int(value))

    module: Any = ModuleType("cuda.bindings.runtime")
    module.cudaError_t, module.cudaDeviceAttr = _Error, _Attribute
    module.cudaMemcpyKind, module.cudaStreamCaptureMode = _Kind, _Mode

    def cudaGetDeviceProperties(device: int) -> Any:
        name = (c_char * 256)()
        error = call("cudaGetDeviceProperties", name, device)
        return error, SimpleNamespace(name=name.raw)

    def cudaDeviceGetAttribute(attr: _Attribute, device: int) -> Any:
        assert isinstance(attr, _Attribute)
        return made("cudaDeviceGetAttribute", c_int(), attr, device)

    def cudaMemGetInfo() -> Any:
        free, total = c_size_t(), c_size_t()
        return call("cudaMemGetInfo", byref(free), byref(total)), free.value, total.value

    def cudaMemcpyAsync(dst: Any, src: Any, count: int, kind: _Kind, stream: Any) -> Any:
        assert isinstance(kind, _Kind)
        return (call("cudaMemcpyAsync", of(dst), of(src), c_size_t(count), kind, of(stream)),)

    def cudaStreamBeginCapture(stream: Any, mode: _Mode) -> Any:
        assert isinstance(mode, _Mode)
        return (call("cudaStreamBeginCapture", of(stream), mode),)

    def cudaStreamEndCapture(stream: Any) -> Any:
        graph = c_void_p()
        error = call("cudaStreamEndCapture", of(stream), byref(graph))
        return error, None if error else Handle(graph.value or 0)

    def cudaEventElapsedTime(start: Any, end: Any) -> Any:
        return made("cudaEventElapsedTime", c_float(), of(start), of(end))

    def cudaGraphInstantiateWithFlags(graph: Any, flags: int) -> Any:
        return handle(made("cudaGraphInstantiateWithFlags", c_void_p(), of(graph), c_ulonglong(flags)))

    plain = {
        "cudaGetDeviceCount": lambda: made("cudaGetDeviceCount", c_int()),
        "cudaSetDevice": lambda device: (call("cudaSetDevice", device),),
        "cudaSetDeviceFlags": lambda flags: (call("cudaSetDeviceFlags", c_uint(flags)),),
        "cudaRuntimeGetVersion": lambda: made("cudaRuntimeGetVersion", c_int()),
        "cudaDriverGetVersion": lambda: made("cudaDriverGetVersion", c_int()),
        "cudaMalloc": lambda size: made("cudaMalloc", c_void_p(), c_size_t(size)),
        "cudaFree": lambda devPtr: (call("cudaFree", of(devPtr)),),
        "cudaHostAlloc": lambda size, flags: made("cudaHostAlloc", c_void_p(), c_size_t(size), c_uint(flags)),
        "cudaFreeHost": lambda ptr: (call("cudaFreeHost", of(ptr)),),
        "cudaStreamCreateWithFlags": lambda flags: handle(made("cudaStreamCreateWithFlags", c_void_p(), c_uint(flags))),
        "cudaStreamDestroy": lambda stream: (call("cudaStreamDestroy", of(stream)),),
        "cudaStreamSynchronize": lambda stream: (call("cudaStreamSynchronize", of(stream)),),
        "cudaStreamWaitEvent": lambda stream, event, flags: (
            call("cudaStreamWaitEvent", of(stream), of(event), flags),
        ),
        "cudaLaunchHostFunc": lambda stream, fn, userData: (
            call("cudaLaunchHostFunc", of(stream), of(fn), of(userData)),
        ),
        "cudaGraphLaunch": lambda graphExec, stream: (call("cudaGraphLaunch", of(graphExec), of(stream)),),
        "cudaGraphExecDestroy": lambda graphExec: (call("cudaGraphExecDestroy", of(graphExec)),),
        "cudaGraphDestroy": lambda graph: (call("cudaGraphDestroy", of(graph)),),
        "cudaEventCreateWithFlags": lambda flags: handle(made("cudaEventCreateWithFlags", c_void_p(), c_uint(flags))),
        "cudaEventDestroy": lambda event: (call("cudaEventDestroy", of(event)),),
        "cudaEventRecord": lambda event, stream: (call("cudaEventRecord", of(event), of(stream)),),
        "cudaEventSynchronize": lambda event: (call("cudaEventSynchronize", of(event)),),
        "cudaGetLastError": lambda: (call("cudaGetLastError"),),
    }
    for name, function in plain.items():
        setattr(module, name, function)
    for written in (
        cudaGetDeviceProperties,
        cudaDeviceGetAttribute,
        cudaMemGetInfo,
        cudaMemcpyAsync,
        cudaStreamBeginCapture,
        cudaStreamEndCapture,
        cudaEventElapsedTime,
        cudaGraphInstantiateWithFlags,
    ):
        setattr(module, written.__name__, written)
    return module


class FakePyCuda:
    """``pycuda.driver`` over the stub, with the classes and errors of PyCUDA's src/wrapper/wrap_cudadrv.cpp."""

    class Error(Exception): ...

    class MemoryError(Error): ...  # noqa: A001

    class LogicError(Error): ...

    class event_flags(enum.IntEnum):
        DEFAULT = 0
        BLOCKING_SYNC = 1

    class device_attribute(enum.IntEnum):
        MULTIPROCESSOR_COUNT = 16
        INTEGRATED = 18

    def __init__(self, stub: Stub) -> None:
        self._library = stub.library
        self._contexts = threading.local()
        self.Context = SimpleNamespace(pop=lambda: setattr(self._contexts, "current", False))

    def init(self) -> None: ...

    def push(self) -> None:
        """Make the primary context current in this thread."""
        self._contexts.current = True

    def call(self, name: str, *arguments: Any) -> None:
        main = threading.current_thread() is threading.main_thread()
        if not main and not getattr(self._contexts, "current", False):
            raise self.LogicError("explicit_context_dependent failed: no currently active context?")
        error = getattr(self._library, name)(*arguments)
        if error:
            text = c_char_p()
            self._library.cuGetErrorString(error, byref(text))
            kind = self.MemoryError if error == 2 else self.LogicError
            raise kind(f"{name.removesuffix('_v2')} failed: {(text.value or b'').decode()}")

    def get_version(self) -> tuple[int, int, int]:
        return (12, 6, 0)

    def get_driver_version(self) -> int:
        version = c_int()
        self.call("cuDriverGetVersion", byref(version))
        return version.value

    def mem_get_info(self) -> tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def mem_alloc(self, nbytes: int) -> Any:
        pointer = c_void_p()
        self.call("cuMemAlloc_v2", byref(pointer), c_size_t(nbytes))
        return _Allocation(self, pointer.value or 0, "cuMemFree_v2")

    def pagelocked_empty(self, shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        pointer = c_void_p()
        self.call("cuMemHostAlloc", byref(pointer), c_size_t(size), c_uint(mem_flags))
        allocation = _Allocation(self, pointer.value or 0, "cuMemFreeHost")
        allocation.__array_interface__ = {
            "version": 3,
            "shape": tuple(shape),
            "typestr": np.dtype(dtype).str,
            "data": (pointer.value, False),
        }
        return np.asarray(allocation)

    def memcpy_htod_async(self, dest: int, src: Any, stream: Any = None) -> None:
        self.call("cuMemcpyHtoDAsync_v2", c_void_p(dest), c_void_p(src.ctypes.data), c_size_t(src.nbytes), stream.raw)

    def memcpy_dtoh_async(self, dest: Any, src: int, stream: Any = None) -> None:
        self.call("cuMemcpyDtoHAsync_v2", c_void_p(dest.ctypes.data), c_void_p(src), c_size_t(dest.nbytes), stream.raw)

    def Stream(self, flags: int = 0) -> Any:
        return _FakeStream(self, flags)

    def Event(self, flags: int = 0) -> Any:
        return _FakeEvent(self, flags)


class FakeDevice:
    """A ``pycuda.driver.Device``."""

    def __init__(self, driver: FakePyCuda) -> None:
        self._driver = driver

    def retain_primary_context(self) -> Any:
        return SimpleNamespace(push=self._driver.push)

    def name(self) -> str:
        return "Stub GPU"

    def compute_capability(self) -> tuple[int, int]:
        return (8, 7)

    def total_memory(self) -> int:
        return self._driver.mem_get_info()[1]

    def get_attribute(self, attribute: int) -> int:
        value = c_int()
        self._driver.call("cuDeviceGetAttribute", byref(value), attribute, 0)
        return value.value


class _Allocation:
    def __init__(self, driver: FakePyCuda, pointer: int, release: str) -> None:
        self._driver, self._pointer, self._release = driver, pointer, release

    def __int__(self) -> int:
        return self._pointer

    def free(self) -> None:
        self._driver.call(self._release, c_void_p(self._pointer))


class _FakeStream:
    def __init__(self, driver: FakePyCuda, flags: int) -> None:
        self._driver, self.raw = driver, c_void_p()
        driver.call("cuStreamCreate", byref(self.raw), c_uint(flags))

    @property
    def handle(self) -> int:
        return self.raw.value or 0

    def synchronize(self) -> None:
        self._driver.call("cuStreamSynchronize", self.raw)

    def wait_for_event(self, event: Any) -> None:
        self._driver.call("cuStreamWaitEvent", self.raw, event.raw, 0)

    def __del__(self) -> None:
        if self.raw.value:
            self._driver.call("cuStreamDestroy_v2", self.raw)


class _FakeEvent:
    def __init__(self, driver: FakePyCuda, flags: int) -> None:
        self._driver, self.raw = driver, c_void_p()
        driver.call("cuEventCreate", byref(self.raw), c_uint(int(flags)))

    def record(self, stream: Any = None) -> Any:
        self._driver.call("cuEventRecord", self.raw, stream.raw)
        return self

    def synchronize(self) -> Any:
        self._driver.call("cuEventSynchronize", self.raw)
        return self

    def time_since(self, event: Any) -> float:
        milliseconds = c_float()
        self._driver.call("cuEventElapsedTime_v2", byref(milliseconds), event.raw, self.raw)
        return milliseconds.value

    def __del__(self) -> None:
        if self.raw.value:
            self._driver.call("cuEventDestroy_v2", self.raw)
