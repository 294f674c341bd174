"""TensorRT as far as hwnas uses it, with the rules of the real one and none of its computing.

A class here has just the names that :mod:`hwnas.agent.trt.names` lists and the version has; whatever else the agent
asked for would be missing.  Breaking a rule - executing with a tensor unbound, freeing an engine before its context,
sizes that do not agree - is kept in :data:`BROKEN`.  Every call can be made to fail: see :func:`fail_at`.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import inspect
import json
import os
import signal
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

import fake_cuda
import numpy as np
import onnx
from google.protobuf.message import DecodeError

from hwnas.agent.trt import names

BROKEN: list[str] = []
"""Rules that were broken."""
USED: set[tuple[str, str]] = set()
"""Class and name, with ``/n`` for calls, of all that was asked for."""
_FUSE = {"at": 0, "calls": 0, "raises": False}
_OUT_OF_MEMORY = "[E] Error Code 2: OutOfMemory (Requested size was too large.)"


def fail_at(call: int, raises: bool) -> None:
    """Let the ``call``-th call from now fail, 0 for none: by raising, or else as that function refuses."""
    _FUSE.update(at=call, calls=0, raises=raises)


def calls() -> int:
    """How many were made since :func:`fail_at`."""
    return int(_FUSE["calls"])


def refuse_with(value: Any) -> Callable[[Any], Any]:
    """Says what a method gives when it fails."""

    def decorate(method: Any) -> Any:
        method.refusal = value
        return method

    return decorate


def _counted(kind: str, name: str, method: Any) -> Any:
    """The method, counted and recorded, failing when its time has come."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        USED.add((kind, f"{name}/{len(arguments)}"))
        _FUSE["calls"] += 1
        if _FUSE["calls"] == _FUSE["at"]:
            if _FUSE["raises"] or not hasattr(method, "refusal"):
                del self, arguments  # a native function has no frame that would keep them
                raise RuntimeError(f"{kind}.{name} failed")
            _LAST_LOGGER[0].log(Severity.ERROR, f"{kind}.{name} failed")
            return method.refusal
        return method(self, *arguments)

    return call


def misbehave(how: str) -> None:
    """Do in a build what native code may do."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "eat":
        eaten = []
        while True:
            eaten.append(bytearray(16 << 20))
            time.sleep(0.005)
    elif how == "hang":
        time.sleep(10**6)
    elif how == "exit":
        os._exit(7)
    elif how == "chatter":
        os.write(1, b"native noise\n")


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    def __init__(self) -> None:
        _LAST_LOGGER[:] = [self]

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


_LAST_LOGGER: list[Any] = []


class IProfiler:
    def __init__(self) -> None:
        pass

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


class IInt8EntropyCalibrator2:
    def __init__(self) -> None:
        pass


_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64", "INT8": "int8", "INT32": "int32", "BOOL": "bool"}
_ONNX = {
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.FLOAT8E4M3FN: "FP8",
}


class DataTypeConstant:
    """A type of a tensor, recorded when it is asked for its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        USED.add(("DataType", self._name))
        return self._name


class ITensor:
    def __init__(self, info: Any) -> None:
        kind = info.type.tensor_type
        self.type_name = _ONNX[kind.elem_type]
        self.sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
        vars(self).update(name=info.name, shape=self.sides, dtype=DataTypeConstant(self.type_name))

    def record(self) -> list[Any]:
        return [vars(self)["name"], self.type_name, self.sides]


class ILayer:
    def __init__(self, outputs: list[ITensor]) -> None:
        self.outputs = outputs
        vars(self).update(num_outputs=len(outputs))

    def get_output(self, index: int) -> ITensor:
        return self.outputs[index]


class INetworkDefinition:
    def __init__(self, builder: Builder, flags: int) -> None:
        self._builder, self.flags = builder, flags
        self.inputs: list[ITensor] = []
        self.outputs: list[ITensor] = []
        self.layers: list[ILayer] = []
        self.parser: Any = lambda: None

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_input(self, index: int) -> ITensor:
        return self.inputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self.layers[index]


class ParserError:
    def __init__(self, description: str, node: int = -1, name: str = "", operator: str = "") -> None:
        self._told = description, node, name, operator

    def desc(self) -> str:
        return self._told[0]

    def code(self) -> Any:
        return types.SimpleNamespace(name="UNSUPPORTED_NODE")

    def node(self) -> int:
        return self._told[1]

    def node_name(self) -> str:
        return self._told[2]

    def node_operator(self) -> str:
        return self._told[3]


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: Any) -> None:
        self._network, self.logger = network, logger
        self._errors: list[ParserError] = []
        network.parser = weakref.ref(self)

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    @refuse_with(False)
    def parse(self, model: bytes) -> bool:
        try:
            graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model)).graph
        except (DecodeError, ValueError):
            self._errors = [_alive(ParserError)("Failed to parse the ONNX model.")]
            return False
        self._errors = [
            _alive(ParserError)("false", number, node.name, node.op_type)
            for number, node in enumerate(graph.node)
            if node.op_type in ("Unique", "Det")
        ]
        if self._errors:
            return False
        known = {info.name: info for info in (*graph.value_info, *graph.output)}
        constants = {initializer.name for initializer in graph.initializer}
        network = self._network
        tensor, layer = _alive(ITensor), _alive(ILayer)
        network.inputs = [tensor(info) for info in graph.input if info.name not in constants]
        network.outputs = [tensor(info) for info in graph.output]
        network.layers = [layer([tensor(known[name]) for name in node.output]) for node in graph.node]
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, name: str, least: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = [tuple(least), tuple(usual), tuple(largest)]


class ITimingCache:
    def __init__(self, version: str, kernels: set[str]) -> None:
        self.version, self.kernels = version, kernels

    @refuse_with(False)
    def combine(self, other: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.kernels |= other.kernels
        return True

    @refuse_with(None)
    def serialize(self) -> bytearray:
        return bytearray(json.dumps([self.version, sorted(self.kernels)]).encode())


class IBuilderConfig:
    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self.flags: set[str] = set()
        self.limits: dict[str, int] = {}
        self.profiles: list[IOptimizationProfile] = []
        self.capabilities: dict[int, str] = {}
        self.cache: ITimingCache | None = None

    def given(self, name: str, default: Any = None) -> Any:
        """What was assigned to an attribute."""
        return vars(self).get(name, default)

    def set_flag(self, flag: Any) -> None:
        self.flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, nbytes: int) -> None:
        self.limits[pool.name] = nbytes

    @refuse_with(-1)
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    @refuse_with(None)
    def create_timing_cache(self, content: bytes) -> ITimingCache | None:
        version = self._builder.version
        try:
            written_by, kernels = json.loads(content) if content else (version, [])
        except ValueError:
            return None
        return _alive(ITimingCache)(written_by, set(kernels))

    @refuse_with(False)
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.version != self._builder.version and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    @refuse_with(None)
    def get_timing_cache(self) -> ITimingCache | None:
        return self.cache

    @refuse_with(False)
    def set_compute_capability(self, capability: Any, index: int) -> bool:
        assert index < self.given("num_compute_capabilities", 0)
        self.capabilities[index] = capability.name
        return True


class Builder:
    version = "0"
    strongly_typed_always = False
    dla_cores = 0
    memory_mib = 1 << 20
    """A build with a larger workspace, or without a limit, runs out of memory where this is set lower."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    @property
    def num_DLA_cores(self) -> int:  # noqa: N802
        return self.dla_cores

    @refuse_with(None)
    def create_network(self, flags: int) -> INetworkDefinition:
        return _alive(INetworkDefinition)(self, flags)

    @refuse_with(None)
    def create_builder_config(self) -> IBuilderConfig:
        return _alive(IBuilderConfig)(self)

    @refuse_with(None)
    def create_optimization_profile(self) -> IOptimizationProfile:
        return _alive(IOptimizationProfile)()

    @refuse_with(None)
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytearray | None:
        misbehave(os.environ.get("FAKE_BUILD", ""))
        if network.parser() is None:
            BROKEN.append("the parser, which holds the weights, was freed before the build")
        problem = _problem(self, network, config)
        if problem:
            self.logger.log(Severity.ERROR, problem)
            return None
        if config.cache is not None:
            config.cache.kernels.add(f"{len(network.layers)} layers")
        shapes = config.profiles[0].shapes if config.profiles else {}
        plan = {
            "version": self.version,
            "inputs": [tensor.record() for tensor in network.inputs],
            "outputs": [tensor.record() for tensor in network.outputs],
            "shapes": shapes,
            "layers": len(network.layers),
            "flags": sorted(config.flags),
            "strongly_typed": _strongly_typed(self, network),
            "workspace": config.limits.get("WORKSPACE"),
            "dla_core": config.given("DLA_core"),
            "capabilities": [config.capabilities[index] for index in sorted(config.capabilities)],
            "calibration": _scales_of(config.given("int8_calibrator")),
            "level": getattr(config.given("hardware_compatibility_level"), "name", None),
            "verbosity": config.given("profiling_verbosity").name,
        }
        return bytearray(json.dumps(plan).encode())


def _scales_of(calibrator: Any) -> str | None:
    """What the builder reads from a calibrator: a cache, or else batches, of which there are none."""
    if calibrator is None:
        return None
    assert calibrator.get_batch_size() == 1
    cache: bytes = calibrator.read_calibration_cache()
    calibrator.write_calibration_cache(cache)
    assert calibrator.get_batch(["input"]) is None
    return cache.decode()


def _strongly_typed(builder: Builder, network: INetworkDefinition) -> bool:
    return builder.strongly_typed_always or bool(network.flags & 2)


def _problem(builder: Builder, network: INetworkDefinition, config: IBuilderConfig) -> str | None:
    """Why the network cannot be built as configured."""
    if not builder.strongly_typed_always and not network.flags & 1:
        return "implicit batch is not supported by the ONNX parser"
    limit = config.limits.get("WORKSPACE", (1 << 20) << 20)
    if limit > builder.memory_mib << 20:
        return _OUT_OF_MEMORY
    types_used = {output.type_name for layer in network.layers for output in layer.outputs}
    strong, flags = _strongly_typed(builder, network), config.flags
    needs = {"HALF": "FP16", "BF16": "BF16", "INT8": "INT8", "FP8": "FP8"}
    if strong and flags & set(needs.values()):
        return "Error Code 4: API Usage Error (precision flags are not for strongly typed networks)"
    if not strong:
        missing = [needs[name] for name in types_used & set(needs) if needs[name] not in flags]
        if missing:
            return f"the network has tensors of a type whose flag is not set: {missing[0]}"
    for tensor in network.inputs:
        if -1 in tensor.sides and not any(tensor.record()[0] in profile.shapes for profile in config.profiles):
            return "Network has dynamic or shape inputs, but no optimization profile has been defined."
    if config.given("default_device_type") is not None:
        if not 0 <= config.given("DLA_core", -1) < builder.dla_cores:
            return "DLA core is out of range"
        if "GPU_FALLBACK" not in flags:
            return "a layer cannot run on DLA, and GPU fallback is off"
        if not strong and not flags & {"FP16", "INT8"}:
            return "DLA needs FP16 or INT8"
        if not strong and "INT8" in flags and config.given("int8_calibrator") is None:
            return "INT8 on DLA needs scales"
    return None


class Runtime:
    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self.engines: weakref.WeakSet[Any] = weakref.WeakSet()

    def __del__(self) -> None:
        if any(engine.alive for engine in getattr(self, "engines", ())):
            BROKEN.append("a runtime was freed before its engine")

    @refuse_with(None)
    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        try:
            content = json.loads(plan)
        except ValueError:
            self.logger.log(Severity.ERROR, "[runtime.cpp::readHeader] the serialized engine is damaged")
            return None
        if "VERSION_COMPATIBLE" in content["flags"] and not vars(self).get("engine_host_code_allowed"):
            self.logger.log(Severity.ERROR, "the engine has host code, which is not allowed")
            return None
        engine: ICudaEngine = _alive(ICudaEngine)(content)
        self.engines.add(engine)
        return engine


class ICudaEngine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.alive = True
        self.tensors = {name: (kind, tuple(shape)) for name, kind, shape in plan["inputs"] + plan["outputs"]}
        self.contexts: weakref.WeakSet[Any] = weakref.WeakSet()
        vars(self).update(device_memory_size=4096, device_memory_size_v2=4096)

    def __del__(self) -> None:
        self.alive = False
        if len(getattr(self, "contexts", ())):
            BROKEN.append("an engine was freed before its context")

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return TensorIOMode("INPUT" if name in [entry[0] for entry in self.plan["inputs"]] else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        return DataTypeConstant(self.tensors[name][0])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    @refuse_with(None)
    def create_execution_context(self) -> IExecutionContext:
        context: IExecutionContext = _alive(IExecutionContext)(self)
        self.contexts.add(context)
        return context

    @refuse_with(None)
    def create_engine_inspector(self) -> EngineInspector:
        return _alive(EngineInspector)(self)


class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._plan = engine.plan

    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        return json.dumps({"Layers": [{"Name": f"layer {n}"} for n in range(self._plan["layers"])], "Bindings": []})


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        # Weakly: the real one does not keep its engine either.
        self._engine = weakref.ref(engine)
        self._tensors, self._plan = engine.tensors, engine.plan
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    @refuse_with(False)
    def set_input_shape(self, name: str, shape: Any) -> bool:
        wanted, shape = self._tensors[name][1], tuple(shape)
        profile = self._plan["shapes"].get(name)
        fits = len(wanted) == len(shape) and all(have in (-1, want) for have, want in zip(wanted, shape, strict=True))
        if profile is not None:
            fits = fits and profile[0][0] <= shape[0] <= profile[2][0]
        if fits:
            self._shapes[name] = shape
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shape(name)

    def _shape(self, name: str) -> tuple[int, ...]:
        missing = [entry[0] for entry in self._plan["inputs"] if entry[0] not in self._shapes]
        if missing:
            BROKEN.append(f"a shape was asked for before that of input {missing[0]} was set")
        batch = next(iter(self._shapes.values()))[0]
        return self._shapes.get(name) or tuple(batch if side == -1 else side for side in self._tensors[name][1])

    @refuse_with(False)
    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self._addresses[name] = pointer
        return name in self._tensors

    @refuse_with(False)
    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine()
        if engine is None:
            BROKEN.append("a context was run whose engine had been freed")
            return False
        for name in self._tensors:
            size = int(np.prod(self._shape(name))) * np.dtype(self._dtype(name)).itemsize
            if fake_cuda.BUFFERS.get(self._addresses.get(name, 0), -1) < size:
                BROKEN.append(f"tensor {name} is not bound to {size} bytes of the GPU's memory")
                return False
        fake_cuda.STREAMS[stream].work.append(self._compute)
        profiler = vars(self).get("profiler")
        if profiler is not None:
            for number in range(self._plan["layers"]):
                profiler.report_layer_time(f"layer {number}", 0.5)
        return True

    def _compute(self) -> None:
        """Each output is the inputs' content, repeated."""
        content = np.concatenate([self._array(name).ravel() for name, _, _ in self._plan["inputs"]])
        for name, _, _ in self._plan["outputs"]:
            array = self._array(name)
            array[...] = np.resize(content, array.shape)

    def _array(self, name: str) -> Any:
        shape, dtype = self._shape(name), np.dtype(self._dtype(name))
        memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(self._addresses[name])
        return np.frombuffer(memory, dtype).reshape(shape)

    def _dtype(self, name: str) -> str:
        return _NUMPY[self._tensors[name][0]]


class Constant:
    """A value of an enumeration; what an enumeration is asked for is recorded."""

    def __init__(self, name: str, value: int) -> None:
        self.name, self._value = name, value

    def __int__(self) -> int:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Enumeration:
    def __init__(self, kind: str, constants: dict[str, int]) -> None:
        self._kind, self._constants = kind, constants

    def __getattr__(self, name: str) -> Constant:
        if name.startswith("_") or name not in self._constants:
            raise AttributeError(name)
        USED.add((self._kind, name))
        return Constant(name, self._constants[name])


def TensorIOMode(name: str) -> Constant:  # noqa: N802
    return Constant(name, 0)


_KINDS = (
    Builder,
    EngineInspector,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    IInt8EntropyCalibrator2,
    ILayer,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    IProfiler,
    ITensor,
    ITimingCache,
    OnnxParser,
    ParserError,
    Runtime,
)
_CURRENT: dict[str, Any] = {}
_SUBCLASSED = ("ILogger", "IProfiler", "IInt8EntropyCalibrator2")


def _alive(kind: Any) -> Any:
    """The class as the version made last by :func:`as_version` has it."""
    return _CURRENT[kind.__name__]


def as_version(version: str, module: str) -> types.ModuleType:
    """TensorRT of a version, or TensorRT-RTX, as a module."""
    rtx = module == "tensorrt_rtx"
    number = (98, 0) if rtx else tuple(int(part) for part in version.split(".")[:2])
    made = types.ModuleType(module)
    made.__version__ = version  # type: ignore[attr-defined]
    kinds = {kind.__name__: kind for kind in _KINDS}
    for class_name, listed in names.NAMES.items():
        have = [entry for entry in listed if names.has(number, rtx, class_name, entry.partition("/")[0])]
        if not have:
            continue
        if class_name in kinds:
            _CURRENT[class_name] = _limited(kinds[class_name], class_name, have)
        else:
            constants = {name: value for value, name in enumerate(sorted(have))}
            _CURRENT[class_name] = Enumeration(class_name, constants)
        setattr(made, class_name, _CURRENT[class_name])
    made.Builder.version = version
    made.Builder.strongly_typed_always = number >= (11, 0)
    made.Builder.dla_cores = int(os.environ.get("FAKE_DLA_CORES", "0"))
    made.Builder.memory_mib = int(os.environ.get("FAKE_MEMORY_MIB", "1048576"))
    return made


def _limited(kind: Any, class_name: str, have: list[str]) -> Any:
    """The class with just the names it has; its calls are counted, its attributes recorded."""
    methods = {name: count for name, _, count in (entry.partition("/") for entry in have) if count}
    public = {entry.partition("/")[0] for entry in have}
    content: dict[str, Any] = {}
    for name in methods:
        if class_name not in _SUBCLASSED or name == "__init__":
            content[name] = _counted(class_name, name, getattr(kind, name))

    def look_up(self: Any, name: str) -> Any:
        if name in public and name not in methods:
            USED.add((class_name, name))
        elif name not in public and name in _EVERYWHERE.get(class_name, ()):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def assign(self: Any, name: str, value: Any) -> None:
        if name in public:
            USED.add((class_name, name))
        object.__setattr__(self, name, value)

    def subclassed(subclass: Any) -> None:
        for name in methods.keys() & vars(subclass).keys() - {"__init__"}:
            USED.add((class_name, f"{name}/{len(inspect.signature(getattr(subclass, name)).parameters) - 1}"))

    if class_name in _SUBCLASSED:
        content.update(__init_subclass__=classmethod(subclassed))
    else:
        content.update(__getattribute__=look_up, __setattr__=assign)
    return type(class_name, (kind,), content)


_EVERYWHERE = {kind: {entry.partition("/")[0] for entry in listed} for kind, listed in names.NAMES.items()}
