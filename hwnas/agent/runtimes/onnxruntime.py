"""ONNX Runtime.  An engine is the graph after all of its optimisations, in ONNX Runtime's own operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from ..arrays import Array
from ..protocol import AgentError, ErrorKind
from .base import Engine, Runtime, RuntimeOptions, TensorInfo
from .quiet_ort import ort

_CPU = "CPUExecutionProvider"
_TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}
_ERRORS_ONLY = 3


class OnnxRuntime(Runtime):
    """Sequential execution, one inter-op thread, no spinning, inputs and outputs bound in advance."""

    name = "onnxruntime"
    default_provider = _CPU
    precisions = ("fp32",)

    def version(self) -> str:
        """The version of ONNX Runtime."""
        return str(ort.__version__)

    def providers(self) -> List[str]:
        """The execution providers of this build."""
        return [str(name) for name in ort.get_available_providers()]

    def identity(self, options: RuntimeOptions) -> Dict[str, Any]:
        """How sessions are configured."""
        return {
            "provider": options.provider,
            "threads": options.threads,
            "optimisation": "all",
            "execution": "sequential",
            "spinning": False,
        }

    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        """Optimise the graph and write it."""
        settings = _settings(options, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        settings.optimized_model_filepath = str(output)
        session = _session(onnx, settings, options)
        if options.precision == "fp32":
            for tensor in _tensors(session.get_inputs()):
                if tensor.dtype != "float32":
                    raise AgentError(
                        ErrorKind.MODEL_REFUSED,
                        "input '%s' is %s although the precision asked for is fp32" % (tensor.name, tensor.dtype),
                    )

    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        """Make a session of the optimised graph, as it is."""
        settings = _settings(options, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        return OnnxRuntimeEngine(_session(engine, settings, options))


class OnnxRuntimeEngine(Engine):
    """A session with its inputs and outputs bound."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._inputs = _tensors(session.get_inputs())
        self._outputs = _tensors(session.get_outputs())
        self._binding = session.io_binding()
        self._bound_inputs = []
        self._bound_outputs = []
        for tensor in self._inputs:
            self._bound_inputs.append(_allocate(tensor))
            self._binding.bind_ortvalue_input(tensor.name, self._bound_inputs[-1])
        for tensor in self._outputs:
            self._bound_outputs.append(_allocate(tensor))
            self._binding.bind_ortvalue_output(tensor.name, self._bound_outputs[-1])

    @property
    def inputs(self) -> List[TensorInfo]:
        """The inputs, in the model's order."""
        return self._inputs

    @property
    def outputs(self) -> List[TensorInfo]:
        """The outputs, in the model's order."""
        return self._outputs

    def upload(self, arrays: Sequence[Array]) -> None:
        """Copy into the bound inputs."""
        for index, array in enumerate(arrays):
            self._bound_inputs[index].update_inplace(np.ascontiguousarray(array))

    def run(self) -> None:
        """Run the session on the bound values."""
        self._session.run_with_iobinding(self._binding)

    def download(self) -> List[Array]:
        """Copy out of the bound outputs."""
        return [np.array(value.numpy()) for value in self._bound_outputs]


def _settings(options: RuntimeOptions, level: ort.GraphOptimizationLevel) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = level
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ERRORS_ONLY
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.provider != _CPU:
        # A provider may be listed and yet leave its nodes to the CPU; this makes such a session impossible.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def _session(model: bytes, settings: ort.SessionOptions, options: RuntimeOptions) -> ort.InferenceSession:
    """A session that really computes on the provider asked for."""
    if options.provider not in ort.get_available_providers():
        raise AgentError(
            ErrorKind.FALLBACK,
            "provider %s is not in this build of ONNX Runtime, which has %s"
            % (options.provider, ", ".join(ort.get_available_providers())),
        )
    try:
        session = ort.InferenceSession(model, settings, providers=[options.provider])
    except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
        reason = " ".join(str(error).split())[:300]
        kind = ErrorKind.FALLBACK if "fallback to CPU" in reason else ErrorKind.MODEL_REFUSED
        raise AgentError(kind, "ONNX Runtime refused the model: %s" % reason) from error
    used = session.get_providers()
    if not used or used[0] != options.provider:
        raise AgentError(
            ErrorKind.FALLBACK, "ONNX Runtime fell back from %s to %s" % (options.provider, ", ".join(used))
        )
    return session


def _tensors(arguments: Sequence[Any]) -> List[TensorInfo]:
    return [TensorInfo(argument.name, _dtype(argument), _static_shape(argument)) for argument in arguments]


def _dtype(argument: Any) -> str:
    name: Optional[str] = _TYPES.get(argument.type)
    if name is None:
        raise AgentError(
            ErrorKind.MODEL_REFUSED, "tensor '%s' has the unsupported type %s" % (argument.name, argument.type)
        )
    return name


def _static_shape(argument: Any) -> "tuple[int, ...]":
    if not all(isinstance(side, int) and side > 0 for side in argument.shape):
        raise AgentError(
            ErrorKind.MODEL_REFUSED,
            "tensor '%s' has the shape %s; export the model with static shapes" % (argument.name, argument.shape),
        )
    return tuple(argument.shape)


def _allocate(tensor: TensorInfo) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.zeros(tensor.shape, dtype=tensor.dtype))
