"""CUDA through NVIDIA's cuda-python (wheels for Python 3.10 and newer on x86-64 and aarch64)."""

from __future__ import annotations

import importlib
from typing import Any, Dict, Tuple

from ..protocol import AgentError, ErrorKind
from .base import Cuda, cuda_failure
from .runtime_api import RuntimeApiCuda

_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
"""Of cuda-bindings from 12.8 on, and of cuda-python before."""

_ENUMERATIONS: Dict[str, Tuple[int, str]] = {
    "cudaDeviceGetAttribute": (0, "cudaDeviceAttr"),
    "cudaMemcpyAsync": (3, "cudaMemcpyKind"),
    "cudaStreamBeginCapture": (1, "cudaStreamCaptureMode"),
}
"""Where a function takes a member of an enumeration and no number: which argument, and of which."""


def open_cuda_python() -> Cuda:
    """The GPU.

    Raises:
        ImportError: cuda-python is not installed.
        AgentError: ``no-device``.
    """
    try:
        return RuntimeApiCuda("cuda-python", _Bindings(_module()))
    except RuntimeError as error:  # cuda-python 11 and 12.2, at the first call without a driver
        raise AgentError(ErrorKind.NO_DEVICE, " ".join(str(error).split())) from error


def _module() -> Any:
    try:
        return importlib.import_module(_MODULES[0])
    except ImportError:
        return importlib.import_module(_MODULES[1])


class _Bindings:
    """Calls functions of the bindings by name; what they wrap in classes goes in and out as numbers."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, name: str, *inputs: Any) -> Any:
        arguments = list(inputs)
        if name in _ENUMERATIONS:
            position, enumeration = _ENUMERATIONS[name]
            arguments[position] = getattr(self._module, enumeration)(arguments[position])
        error, *values = getattr(self._module, name)(*arguments)
        if int(error):
            self._module.cudaGetLastError()  # else the next to ask for the last error gets ours
            raise cuda_failure(name, error.name)
        plain = tuple(map(_plain, values))
        return plain[0] if len(plain) == 1 else plain or None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value
    name = getattr(value, "name", None)  # of cudaDeviceProp
    return name.decode(errors="replace").rstrip("\0") if isinstance(name, bytes) else int(value)
