"""CUDA through libcudart itself, which every installation of CUDA or TensorRT has."""

from __future__ import annotations

import ctypes
import re
import sys
from ctypes import POINTER, byref, c_char, c_float, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from ..protocol import AgentError, ErrorKind
from .base import Cuda, cuda_failure
from .runtime_api import RuntimeApiCuda

_SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
_PLACES = (
    "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/targets/*/lib",
    "/usr/local/cuda*/lib",
    "/usr/lib/*-linux-gnu",
)
_IN_SITE_PACKAGES = ("nvidia/cuda_runtime/lib", "nvidia/cu*/lib")

_OLDEST = "a libcudart older than that of CUDA 11.4 (it has no %s)"


class _Out(NamedTuple):
    """An output, which C takes as a pointer."""

    type: Any


_PROPERTIES = c_char * 8192
"""More than ``cudaDeviceProp`` has in any version; it begins with the name."""

_SIGNATURES: Dict[str, Tuple[Any, ...]] = {
    "cudaGetDeviceCount": (_Out(c_int),),
    "cudaSetDevice": (c_int,),
    "cudaSetDeviceFlags": (c_uint,),
    "cudaDeviceGetAttribute": (_Out(c_int), c_int, c_int),
    "cudaGetDeviceProperties": (_Out(_PROPERTIES), c_int),
    "cudaRuntimeGetVersion": (_Out(c_int),),
    "cudaDriverGetVersion": (_Out(c_int),),
    "cudaMemGetInfo": (_Out(c_size_t), _Out(c_size_t)),
    "cudaMalloc": (_Out(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (_Out(c_void_p), c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
    "cudaStreamCreateWithFlags": (_Out(c_void_p), c_uint),
    "cudaStreamDestroy": (c_void_p,),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cudaLaunchHostFunc": (c_void_p, c_void_p, c_void_p),
    "cudaStreamBeginCapture": (c_void_p, c_int),
    "cudaStreamEndCapture": (c_void_p, _Out(c_void_p)),
    "cudaGraphInstantiateWithFlags": (_Out(c_void_p), c_void_p, c_ulonglong),
    "cudaGraphLaunch": (c_void_p, c_void_p),
    "cudaGraphExecDestroy": (c_void_p,),
    "cudaGraphDestroy": (c_void_p,),
    "cudaEventCreateWithFlags": (_Out(c_void_p), c_uint),
    "cudaEventDestroy": (c_void_p,),
    "cudaEventRecord": (c_void_p, c_void_p),
    "cudaEventSynchronize": (c_void_p,),
    "cudaEventElapsedTime": (_Out(c_float), c_void_p, c_void_p),
    "cudaGetLastError": (),
}


def open_cudart() -> Cuda:
    """The GPU, through the newest libcudart here that the driver serves.

    Raises:
        OSError: there is no libcudart.
        AgentError: ``no-device``, with what each libcudart said.
    """
    refusals: List[str] = []
    for path in _candidates():
        try:
            return RuntimeApiCuda("cudart (ctypes)", _Library(ctypes.CDLL(path)))
        except OSError:
            continue  # not there, or of another machine
        except AgentError as error:
            refusals.append("%s: %s" % (path, error.message))
    if not refusals:
        raise OSError("no libcudart on the loader's path, in /usr/local/cuda* or beside nvidia's wheels")
    raise AgentError(ErrorKind.NO_DEVICE, "; ".join(refusals))


class _Library:
    """Calls functions of a loaded libcudart by name."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._functions = {name: _declared(library, name, signature) for name, signature in _SIGNATURES.items()}
        self._error_name = library.cudaGetErrorName
        self._error_name.argtypes, self._error_name.restype = [c_int], ctypes.c_char_p

    def __call__(self, name: str, *inputs: Any) -> Any:
        remaining = iter(inputs)
        outputs = []
        arguments = []
        for kind in _SIGNATURES[name]:
            if isinstance(kind, _Out):
                outputs.append(kind.type())
                arguments.append(byref(outputs[-1]))
            else:
                arguments.append(next(remaining))
        error = self._functions[name](*arguments)
        if error:
            self._functions["cudaGetLastError"]()  # else the next to ask for the last error gets ours
            raise cuda_failure(name, self._error_name(error).decode())
        values = tuple(_value(output) for output in outputs)
        return values[0] if len(values) == 1 else values or None


def _declared(library: ctypes.CDLL, name: str, signature: Tuple[Any, ...]) -> Any:
    try:
        function = getattr(library, name)
    except AttributeError as error:
        raise AgentError(ErrorKind.NO_DEVICE, _OLDEST % name) from error
    function.restype = c_int
    function.argtypes = [POINTER(kind.type) if isinstance(kind, _Out) else kind for kind in signature]
    return function


def _value(output: Any) -> Any:
    value = output.value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return 0 if value is None else value  # ctypes gives a null pointer as None


def _candidates() -> Iterator[str]:
    """By the loader's own path first, then where CUDA and NVIDIA's wheels put it; the newest first."""
    yield from _SONAMES
    found = [file for place in _PLACES for file in Path("/").glob(place.lstrip("/") + "/libcudart.so.*")]
    for entry in filter(None, sys.path):
        found += [file for place in _IN_SITE_PACKAGES for file in Path(entry).glob(place + "/libcudart.so.*")]
    files = {str(file.resolve()) for file in found}
    yield from sorted(files, key=_version, reverse=True)


def _version(path: str) -> Tuple[int, ...]:
    """Of ``libcudart.so.12.6.77``: (12, 6, 77)."""
    return tuple(map(int, re.findall(r"\d+", path.rsplit(".so", 1)[1])))
