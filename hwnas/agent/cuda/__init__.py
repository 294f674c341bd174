"""Ways to CUDA, imported only when something asks for a GPU."""

from __future__ import annotations

import importlib
from typing import Dict, List, Optional

from ..protocol import AgentError, ErrorKind
from .base import Cuda, DeviceBuffer, Event, GpuFacts, Graph, PinnedArray, Stream

LIBRARIES: Dict[str, str] = {
    "pycuda": ".pycuda_:open_pycuda",
    "cuda-python": ".cuda_python:open_cuda_python",
    "cudart (ctypes)": ".cudart_ctypes:open_cudart",
}
"""Name of a library to the module and the function that open it, in order of preference."""

__all__ = [
    "LIBRARIES",
    "Cuda",
    "DeviceBuffer",
    "Event",
    "GpuFacts",
    "Graph",
    "PinnedArray",
    "Stream",
    "open_cuda",
]


def open_cuda(prefer: Optional[str] = None, graphs: bool = False) -> Cuda:
    """The GPU, through the first library that reaches it.

    Args:
        prefer: the one library of :data:`LIBRARIES` to use; ``None`` for any.
        graphs: pass over libraries without CUDA graphs.

    Raises:
        AgentError: ``no-device``, with what each library said; ``bad-request`` when ``prefer`` names none.
    """
    if prefer is not None and prefer not in LIBRARIES:
        raise AgentError(
            ErrorKind.BAD_REQUEST, "no library '%s' leads to CUDA; there is %s" % (prefer[:40], ", ".join(LIBRARIES))
        )
    refusals: List[str] = []
    for name in LIBRARIES if prefer is None else (prefer,):
        try:
            cuda = _open(name)
        except (ImportError, OSError) as error:
            refusals.append("%s is not installed (%s)" % (name, " ".join(str(error).split())))
            continue
        except AgentError as error:
            refusals.append("%s: %s" % (name, error.message))
            continue
        if cuda.graphs or not graphs:
            return cuda
        refusals.append("%s has no CUDA graphs" % name)
    raise AgentError(ErrorKind.NO_DEVICE, "no way to a GPU here: %s" % "; ".join(refusals))


def _open(name: str) -> Cuda:
    module_name, function_name = LIBRARIES[name].split(":")
    module = importlib.import_module(module_name, __package__)
    cuda: Cuda = getattr(module, function_name)()
    return cuda
