"""Every name of TensorRT's Python API that this package uses, and which versions have it.

The fake TensorRT of the tests has no name that is not here, and the tests fail on one here that nothing uses; the list
is checked against NVIDIA's own bindings of five versions.  A method or constructor is ``name/n`` when it is called with
``n`` arguments.
"""

from __future__ import annotations

from typing import Dict, Tuple

Version = Tuple[int, int]

NAMES: Dict[str, Tuple[str, ...]] = {
    "Builder": (
        "__init__/1",
        "build_serialized_network/2",
        "create_builder_config/0",
        "create_network/1",
        "create_optimization_profile/0",
        "num_DLA_cores",
    ),
    "BuilderFlag": ("FP16", "FP8", "GPU_FALLBACK", "INT8", "VERSION_COMPATIBLE"),
    "ComputeCapability": ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121"),
    "DataType": ("BF16", "BOOL", "FLOAT", "FP4", "FP8", "HALF", "INT32", "INT4", "INT64", "INT8", "UINT8"),
    "DeviceType": ("DLA",),
    "EngineInspector": ("get_engine_information/1",),
    "HardwareCompatibilityLevel": ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
    "IBuilderConfig": (
        "DLA_core",
        "add_optimization_profile/1",
        "create_timing_cache/1",
        "default_device_type",
        "get_timing_cache/0",
        "hardware_compatibility_level",
        "int8_calibrator",
        "num_compute_capabilities",
        "profiling_verbosity",
        "set_compute_capability/2",
        "set_flag/1",
        "set_memory_pool_limit/2",
        "set_timing_cache/2",
    ),
    "ICudaEngine": (
        "create_engine_inspector/0",
        "create_execution_context/0",
        "device_memory_size",
        "device_memory_size_v2",
        "get_tensor_dtype/1",
        "get_tensor_mode/1",
        "get_tensor_name/1",
        "get_tensor_shape/1",
        "num_io_tensors",
    ),
    "IExecutionContext": (
        "execute_async_v3/1",
        "get_tensor_shape/1",
        "profiler",
        "set_input_shape/2",
        "set_tensor_address/2",
    ),
    "IInt8EntropyCalibrator2": (
        "__init__/0",
        "get_batch/1",
        "get_batch_size/0",
        "read_calibration_cache/0",
        "write_calibration_cache/1",
    ),
    "ILayer": ("get_output/1", "num_outputs"),
    "ILogger": ("__init__/0", "log/2"),
    "INetworkDefinition": ("get_input/1", "get_layer/1", "num_inputs", "num_layers"),
    "IOptimizationProfile": ("set_shape/4",),
    "IProfiler": ("__init__/0", "report_layer_time/2"),
    "ITensor": ("dtype", "name", "shape"),
    "ITimingCache": ("combine/2", "serialize/0"),
    "LayerInformationFormat": ("JSON",),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "OnnxParser": ("__init__/2", "get_error/1", "num_errors", "parse/1"),
    "ParserError": ("code/0", "desc/0", "node/0", "node_name/0", "node_operator/0"),
    "ProfilingVerbosity": ("DETAILED", "NONE"),
    "Runtime": ("DLA_core", "__init__/1", "deserialize_cuda_engine/1", "engine_host_code_allowed"),
    "TensorIOMode": ("INPUT",),
}
"""Class to what is used of it."""

_ALWAYS = (0, 0), (99, 99)
_UNTIL_10 = (0, 0), (10, 99)
VERSIONS: Dict[str, Tuple[Version, Version]] = {
    "BuilderFlag.FP16": _UNTIL_10,
    "BuilderFlag.FP8": ((8, 6), (10, 99)),
    "BuilderFlag.INT8": _UNTIL_10,
    "DataType.BF16": ((10, 0), (99, 99)),
    "DataType.FP4": ((10, 8), (99, 99)),
    "DataType.FP8": ((8, 6), (99, 99)),
    "DataType.INT4": ((10, 0), (99, 99)),
    "DataType.INT64": ((10, 0), (99, 99)),
    "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY": ((10, 13), (99, 99)),
    "IBuilderConfig.int8_calibrator": _UNTIL_10,
    "ICudaEngine.device_memory_size": _UNTIL_10,
    "ICudaEngine.device_memory_size_v2": ((10, 0), (99, 99)),
    "IInt8EntropyCalibrator2": _UNTIL_10,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": _UNTIL_10,
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": ((10, 0), (99, 99)),
    "ParserError.node_name": ((10, 0), (99, 99)),
    "ParserError.node_operator": ((10, 0), (99, 99)),
}
"""First and last version of what not every one has; TensorRT-RTX is like the last."""

ONLY_RTX = (
    "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
)
"""What TensorRT has in no version."""


def has(version: Version, rtx: bool, class_name: str, name: str) -> bool:
    """Whether a version has ``class_name.name`` by these lists; ``name`` without the number of arguments."""
    paths = (class_name, "%s.%s" % (class_name, name))
    if not rtx and any(path in ONLY_RTX for path in paths):
        return False
    ranges = (VERSIONS.get(path, _ALWAYS) for path in paths)
    return all(first <= version <= last for first, last in ranges)
