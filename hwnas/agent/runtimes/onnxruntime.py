"""ONNX Runtime.  An engine is the graph after all of its optimisations, in ONNX Runtime's own operators.

With TensorrtExecutionProvider it is a graph of one operator that holds what TensorRT built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from ..arrays import Array
from ..onnx_precision import require_precision
from ..protocol import AgentError, ErrorKind
from .base import Engine, Runtime, RuntimeOptions, TensorInfo
from .ort_placement import elsewhere
from .ort_providers import CPU, ON_GPU, TENSORRT, check_options, forbid_tf32, gpu_identity, provider_options
from .quiet_ort import ort

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
    default_provider = CPU
    precisions = ("fp32", "fp16", "int8")

    def version(self) -> str:
        """The version of ONNX Runtime."""
        return str(ort.__version__)

    def providers(self) -> List[str]:
        """The execution providers of this build."""
        return [str(name) for name in ort.get_available_providers()]

    def identity(self, options: RuntimeOptions) -> Dict[str, Any]:
        """How sessions are configured, and on a GPU which one."""
        session = {
            "provider": options.provider,
            "threads": options.threads,
            "optimisation": "all",
            "execution": "sequential",
            "spinning": False,
        }
        return {**session, **gpu_identity(options)} if options.provider in ON_GPU else session

    def compile(self, onnx: bytes, options: RuntimeOptions, output: Path) -> None:
        """Optimise the graph, or let TensorRT build it, and write the result."""
        check_options(options)
        settings = _settings(options, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        if options.provider != TENSORRT:
            settings.optimized_model_filepath = str(output)
        _require_model(onnx, options)
        session = _session(onnx, settings, options, output)
        _tensors([*session.get_inputs(), *session.get_outputs()])
        if not output.exists():
            raise AgentError(
                ErrorKind.FALLBACK,
                "%s %s wrote no engine; it can from ONNX Runtime 1.17 on" % (options.provider, self.version()),
            )

    def load(self, engine: bytes, options: RuntimeOptions) -> Engine:
        """Make a session of the optimised graph, as it is."""
        settings = _settings(options, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        session = _session(engine, settings, options)
        return GpuEngine(session) if options.provider in ON_GPU else OnnxRuntimeEngine(session)


class OnnxRuntimeEngine(Engine):
    """A session with its inputs and outputs bound."""

    memory = "cpu"

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.inputs = _tensors(session.get_inputs())
        self.outputs = _tensors(session.get_outputs())
        self._binding = session.io_binding()
        self._bound_inputs = []
        self._bound_outputs = []
        for tensor in self.inputs:
            self._bound_inputs.append(_allocate(tensor, self.memory))
            self._binding.bind_ortvalue_input(tensor.name, self._bound_inputs[-1])
        for tensor in self.outputs:
            self._bound_outputs.append(_allocate(tensor, self.memory))
            self._binding.bind_ortvalue_output(tensor.name, self._bound_outputs[-1])

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


class GpuEngine(OnnxRuntimeEngine):
    """A session whose inputs and outputs lie in the GPU's memory.

    It is timed by the host's clock from the call to the end of the last kernel, what the host does between included.
    """

    memory = "cuda"

    def run(self) -> None:
        """Run the session on the bound values and wait for the GPU."""
        super().run()
        self._binding.synchronize_outputs()


def _settings(options: RuntimeOptions, level: ort.GraphOptimizationLevel) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.graph_optimization_level = level
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ERRORS_ONLY
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.provider != CPU:
        # A provider may be listed and yet leave its nodes to the CPU; this makes such a session impossible.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def _require_model(onnx: bytes, options: RuntimeOptions) -> None:
    """Refuse a model that is in another precision than was asked for."""
    try:
        require_precision(onnx, options.precision)
    except AgentError as error:
        raise AgentError(error.kind, "ONNX Runtime refused the model: %s" % error.message) from error


def _session(
    model: bytes, settings: ort.SessionOptions, options: RuntimeOptions, engine: Optional[Path] = None
) -> ort.InferenceSession:
    """A session that really computes on the provider asked for, all of it.

    An official build lists providers whose libraries are missing, and its sessions then are on the CPU, silently.
    """
    if options.provider not in ort.get_available_providers():
        raise AgentError(
            ErrorKind.FALLBACK,
            "provider %s is not in this build of ONNX Runtime, which has %s"
            % (options.provider, ", ".join(ort.get_available_providers())),
        )
    if options.provider == TENSORRT:
        forbid_tf32()
    try:
        session = ort.InferenceSession(
            model, settings, providers=[(options.provider, provider_options(options, engine))]
        )
    except Exception as error:  # ONNX Runtime raises a dozen classes without a common base
        raise _refusal(model, options, error) from error
    used = session.get_providers()
    if not used or used[0] != options.provider:
        raise AgentError(
            ErrorKind.FALLBACK, "ONNX Runtime fell back from %s to %s" % (options.provider, ", ".join(used))
        )
    session.disable_fallback()
    return session


def _refusal(model: bytes, options: RuntimeOptions, error: Exception) -> AgentError:
    reason = " ".join(str(error).split())[:300]
    if "out of memory" in reason.lower() or "Failed to allocate memory" in reason:
        return AgentError(ErrorKind.OUT_OF_MEMORY, "the device's memory does not hold the model: %s" % reason)
    if options.provider != CPU and ("CPU EP" in reason or "fallback to CPU" in reason):
        return AgentError(
            ErrorKind.FALLBACK,
            "ONNX Runtime would not compute on %s: %s"
            % (options.provider, elsewhere(model, options.provider, provider_options(options))),
        )
    return AgentError(ErrorKind.MODEL_REFUSED, "ONNX Runtime refused the model: %s" % reason)


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


def _allocate(tensor: TensorInfo, memory: str) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.zeros(tensor.shape, dtype=tensor.dtype), memory, 0)
