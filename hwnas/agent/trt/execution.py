"""A serialized engine in the GPU's memory, with a context and its tensors by name."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from ..protocol import AgentError, ErrorKind
from ..runtimes.base import RuntimeOptions, TensorInfo
from .building import DLA
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


class Execution:
    """What TensorRT needs to run an engine; the memory of inputs and outputs is the caller's."""

    def __init__(self, library: Library, plan: bytes, options: RuntimeOptions) -> None:
        """
        Raises:
            AgentError: ``no-device`` without driver or GPU; ``out-of-memory``; ``internal`` when the library refuses
                the engine, ``model-refused`` when a tensor of it has a type that NumPy lacks.
        """
        self._library = library
        self._context: Any = None
        self.engine = _deserialized(library, plan, options)
        try:
            self._context = self._made_context()
            self.inputs, self.outputs = self._tensors(options.build.batch_range)
        except BaseException:
            self.close()
            raise

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
        """Let go of the context and then of its engine, in the order that TensorRT demands."""
        self._context = None
        self.engine = None

    def _made_context(self) -> Any:
        context = self.engine.create_execution_context()
        if context is None:
            raise self._library.failure("making a context for the engine", ErrorKind.OUT_OF_MEMORY)
        return context

    def _tensors(self, batch_range: Optional[Tuple[int, int, int]]) -> Tuple[List[TensorInfo], List[TensorInfo]]:
        """Inputs and outputs in the model's order, at the usual batch where it is dynamic."""
        names = [self.engine.get_tensor_name(number) for number in range(self.engine.num_io_tensors)]
        mode = self._library.trt.TensorIOMode.INPUT
        inputs = [name for name in names if self.engine.get_tensor_mode(name) == mode]
        shapes = {}
        for name in inputs:
            shape = tuple(self.engine.get_tensor_shape(name))
            shapes[name] = shape if batch_range is None or shape[0] != -1 else (batch_range[1], *shape[1:])
            if not self._context.set_input_shape(name, shapes[name]):
                raise self._library.failure("giving input '%s' the shape %s" % (name, list(shapes[name])))
        for name in names:
            shapes.setdefault(name, tuple(self._context.get_tensor_shape(name)))
        infos = {name: TensorInfo(name, self._numpy_type(name), shapes[name]) for name in names}
        return [infos[name] for name in inputs], [infos[name] for name in names if name not in inputs]

    def _numpy_type(self, name: str) -> str:
        found = self.engine.get_tensor_dtype(name).name
        if found not in _NUMPY:
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "tensor '%s' is %s, which NumPy lacks; let inputs and outputs of the model be float32" % (name, found),
            )
        return _NUMPY[found]


def _deserialized(library: Library, plan: bytes, options: RuntimeOptions) -> Any:
    library.errors.clear()
    runtime = library.trt.Runtime(library.logger)
    if options.provider == DLA:
        runtime.DLA_core = options.build.dla_core or 0
    if options.build.version_compatible:
        runtime.engine_host_code_allowed = True  # such an engine brings code; this agent built it itself
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if library.misses_driver():
            raise AgentError(
                ErrorKind.NO_DEVICE, "loading an engine needs an NVIDIA GPU with its driver, and none is here"
            )
        raise library.failure("loading the engine")
    return engine
