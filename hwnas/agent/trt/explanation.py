"""What an engine consists of and what its layers take: to explain a figure by, never to predict one from.

TensorRT fuses across layers, so that one entry may stand for a whole region, and profiling itself costs time.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List

from ..cuda import Cuda
from ..runtimes.base import RuntimeOptions
from .execution import Execution, LoadedEngine
from .library import Library

_RUNS = 10


def explain(library: Library, cuda: Cuda, plan: bytes, options: RuntimeOptions) -> Dict[str, Any]:
    """The inspector's layers, each layer's mean time of some runs on arbitrary content, and the memory of activations.

    Raises:
        AgentError: the engine cannot be loaded or run.
    """
    loaded = LoadedEngine(library, plan, options)
    try:
        return {
            "layers": _layers(library, loaded),
            "activation_bytes": _activation_bytes(loaded),
            "layer_ms": _layer_times_ms(library, cuda, loaded.execution()),
        }
    finally:
        loaded.close()


def _layers(library: Library, loaded: LoadedEngine) -> List[Any]:
    """What the inspector tells of each layer; names alone unless the engine was built for profiling."""
    inspector = library.made(loaded.engine.create_engine_inspector(), "inspecting the engine")
    told = inspector.get_engine_information(library.trt.LayerInformationFormat.JSON)
    layers: List[Any] = json.loads(told).get("Layers", [])
    return layers


def _layer_times_ms(library: Library, cuda: Cuda, execution: Execution) -> Dict[str, float]:
    """Mean times by layer, in the order of execution; the first run is not counted."""
    times: Dict[str, List[float]] = {}
    tensors = [*execution.inputs, *execution.outputs]
    buffers = [cuda.allocate(tensor.nbytes) for tensor in tensors]
    stream = cuda.stream()
    try:
        for tensor, buffer in zip(tensors, buffers):
            execution.bind(tensor.name, buffer.pointer)
        execution.enqueue(stream.handle)
        stream.synchronize()
        execution.profile_with(_profiler(library.trt, times))
        for _ in range(_RUNS):
            execution.enqueue(stream.handle)
            stream.synchronize()
    finally:
        execution.close()  # before the memory that it is bound to
        for resource in (stream, *buffers):
            resource.free()
    return {name: sum(values) / len(values) for name, values in times.items()}


def _activation_bytes(loaded: LoadedEngine) -> int:
    """Memory that the engine needs beside its weights."""
    newer = hasattr(loaded.engine, "device_memory_size_v2")
    return int(loaded.engine.device_memory_size_v2 if newer else loaded.engine.device_memory_size)


def _profiler(trt: Any, times: Dict[str, List[float]]) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]
        """Takes what each run reports."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, milliseconds: float) -> None:
            times.setdefault(layer_name, []).append(milliseconds)

    return Profiler()
