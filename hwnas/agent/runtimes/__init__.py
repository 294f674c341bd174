"""The runtimes of the agent, imported only when a request names one."""

from __future__ import annotations

import importlib
import sys
from typing import Dict

from ..protocol import AgentError, ErrorKind
from .base import Engine, Runtime, RuntimeOptions, TensorInfo

RUNTIMES: Dict[str, str] = {
    "onnxruntime": ".onnxruntime:OnnxRuntime",
    "tensorrt": ".tensorrt:TensorRt",
    "tensorrt_rtx": ".tensorrt_rtx:TensorRtRtx",
    "torch": ".torch:TorchRuntime",
}
"""Name of a runtime to its module and class."""

MODEL_FORMATS: Dict[str, str] = {"torch": "nodes"}
"""Runtimes that take their models in another form than ONNX: ``nodes``, see :mod:`hwnas.agent.node_model`."""

__all__ = [
    "MODEL_FORMATS",
    "RUNTIMES",
    "Engine",
    "Runtime",
    "RuntimeOptions",
    "TensorInfo",
    "model_format",
    "open_runtime",
]


def model_format(runtime: str) -> str:
    """In which form a runtime takes its models: ``onnx`` or ``nodes``."""
    return MODEL_FORMATS.get(runtime, "onnx")


def open_runtime(name: str) -> Runtime:
    """The runtime called ``name``.

    Raises:
        AgentError: ``bad-request`` when there is no such runtime or its library is not installed on the device.
    """
    if name not in RUNTIMES:
        known = ", ".join(sorted(RUNTIMES))
        raise AgentError(ErrorKind.BAD_REQUEST, "runtime '%s' is unknown to the agent; it has %s" % (name, known))
    try:
        module_name, class_name = RUNTIMES[name].split(":")
        module = importlib.import_module(module_name, __package__)
    except ImportError as error:
        raise AgentError(
            ErrorKind.BAD_REQUEST, "runtime '%s' is not installed for %s here (%s)" % (name, sys.executable, error)
        ) from error
    runtime: Runtime = getattr(module, class_name)()
    return runtime
