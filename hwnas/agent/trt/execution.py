"""A serialized engine in the GPU's memory, with a context and its tensors by name."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from ..protocol import AgentError, ErrorKind
from ..runtimes.base import RuntimeOptions, TensorInfo
from .dla import DLA
from .library import Library

_NUMPY = {
    "BOOL": "bool",
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
}


class LoadedEngine:
    """A runtime, an engine, and the contexts in which that is executed."""

    def __init__(self, library: Library, plan: bytes, options: RuntimeOptions) -> None:
        """
        Raises:
            AgentError: ``no-device`` without driver or GPU; ``out-of-memory``; ``internal`` when the library refuses
                the engine.
        """
        self._library = library
        self.batch_range = options.build.batch_range
        self._executions: List[Execution] = []
        self._runtime: Any = None
        self.engine: Any = None
        self._runtime, self.engine = _deserialized(library, plan, options)

    def __del__(self) -> None:
        self.close()  # an engine that is only forgotten ends in the same order

    def execution(self) -> "Execution":
        """A new context; it ends with this engine.

        Raises:
            AgentError: ``out-of-memory``; ``model-refused`` when a tensor has a type that NumPy lacks.
        """
        made = Execution(self._library)
        self._executions.append(made)
        made.begin(self)
        return made

    def close(self) -> None:
        """Let go of the contexts, then of the engine, then of the runtime, in the order that TensorRT demands."""
        for execution in self._executions:
            execution.close()
        self.engine = None
        self._runtime = None


class Execution:
    """One context of an engine; the memory of inputs and outputs is the caller's."""

    def __init__(self, library: Library) -> None:
        """Nothing yet: :meth:`begin` comes after its engine knows of it, and closes it whatever happens."""
        self._library = library
        self._context: Any = None
        self.inputs: List[TensorInfo] = []
        self.outputs: List[TensorInfo] = []

    def begin(self, loaded: LoadedEngine) -> None:
        """Make the context and read its tensors; see :meth:`LoadedEngine.execution`."""
        # Context and engine are never local variables: an error's trace would keep them beyond their owners.
        library, mode = self._library, self._library.trt.TensorIOMode
        self._context = loaded.engine.create_execution_context()
        library.made(self._context, "making a context for the engine", ErrorKind.OUT_OF_MEMORY)
        names = [loaded.engine.get_tensor_name(number) for number in range(loaded.engine.num_io_tensors)]
        inputs = [name for name in names if loaded.engine.get_tensor_mode(name) == mode.INPUT]
        for name in inputs:
            self._set_shape(name, _usual(tuple(loaded.engine.get_tensor_shape(name)), loaded.batch_range))
        infos = {name: self._info(name, loaded.engine.get_tensor_dtype(name).name) for name in names}
        self.inputs = [infos[name] for name in inputs]
        self.outputs = [infos[name] for name in names if name not in inputs]

    def bind(self, name: str, pointer: int) -> None:
        """Let the tensor be at ``pointer`` of the GPU's memory."""
        if not self._context.set_tensor_address(name, pointer):
            raise self._library.failure("binding tensor '%s'" % name)

    def enqueue(self, stream: int) -> None:
        """Run once in the CUDA stream with that handle; every tensor is bound."""
        if not self._context.execute_async_v3(stream):
            raise self._library.failure("running the engine", ErrorKind.DEVICE_FAULT)

    def profile_with(self, profiler: Any) -> None:
        """Let every later run report its layers' times."""
        self._context.profiler = profiler

    def close(self) -> None:
        """Let go of the context."""
        self._context = None

    def _set_shape(self, name: str, shape: Tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            raise self._library.failure("giving input '%s' the shape %s" % (name, list(shape)))

    def _info(self, name: str, dtype: str) -> TensorInfo:
        if dtype not in _NUMPY:
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "tensor '%s' is %s, which NumPy lacks; let inputs and outputs of the model be float32" % (name, dtype),
            )
        return TensorInfo(name, _NUMPY[dtype], tuple(self._context.get_tensor_shape(name)))


def _usual(shape: Tuple[int, ...], batch_range: Optional[Tuple[int, int, int]]) -> Tuple[int, ...]:
    """The shape at the usual batch, where that is dynamic."""
    return shape if batch_range is None or shape[0] != -1 else (batch_range[1], *shape[1:])


def _deserialized(library: Library, plan: bytes, options: RuntimeOptions) -> Tuple[Any, Any]:
    """The runtime, which must outlive the engine, and the engine."""
    library.errors.clear()
    runtime = library.trt.Runtime(library.logger)
    if options.provider == DLA:
        runtime.DLA_core = options.build.dla_core or 0
    if options.build.version_compatible:
        runtime.engine_host_code_allowed = True  # such an engine brings code; this agent built it itself
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None and library.misses_driver():
        raise AgentError(ErrorKind.NO_DEVICE, "loading an engine needs an NVIDIA GPU with its driver, and none is here")
    return runtime, library.made(engine, "loading the engine")
