from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch.nn import functional

from hwnas.agent.runtimes.quiet_ort import ort
from hwnas.graphs import (
    Layer,
    Precision,
    Remainder,
    block_graph,
    graph_in_precision,
    insert_qdq,
    network_graph,
    quantisable_layers,
    quantized_graph,
)
from hwnas.graphs.qdq import quantised_weight, weight_scales
from hwnas.spaces import BlockSpec, get_space
from hwnas.spaces.yardsticks import mobilenet_v3_small

sys.path.insert(0, str(Path(__file__).parent))
from rtx import build, require_rtx

Array = npt.NDArray[np.float32]
FORMS: list[tuple[Precision, Remainder]] = [("fp16", "fp16"), ("int8", "fp32"), ("int8", "fp16")]
MBCONV = BlockSpec("mbconv", 16, 9, 9, 16, 64, 5, 1, True, "h_swish", True)
SMALL = get_space("mobilenet_v3/small", 10)


def run(model: ModelProto, images: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {"input": images})
    return found


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def some_blocks(preset: str, count: int) -> list[BlockSpec]:
    blocks = get_space(preset).distinct_blocks
    drawn = np.random.default_rng(0).choice(len(blocks), count, replace=False)
    return [blocks[0], blocks[-1], *(blocks[i] for i in drawn)]


def random_network(seed: int) -> ModelProto:
    drawn = SMALL.decode(SMALL.sample(np.random.default_rng(seed), 1))[0]
    return network_graph(SMALL.blocks(drawn), seed=seed)


@pytest.mark.parametrize(("precision", "remainder"), FORMS)
def test_blocks_in_every_precision_are_valid_onnx_that_take_and_give_float32(
    precision: Precision, remainder: Remainder
) -> None:
    for spec in some_blocks("mobilenet_v3/imagenet-w1.0", 20):
        graph = block_graph(spec)
        before = graph.SerializeToString()
        model = graph_in_precision(graph, precision, remainder=remainder)
        assert graph.SerializeToString() == before
        onnx.checker.check_model(model, full_check=True)
        ends = [*model.graph.input, *model.graph.output]
        assert {end.type.tensor_type.elem_type for end in ends} == {TensorProto.FLOAT}
        assert [end.name for end in ends] == ["input", "output"]


@pytest.mark.parametrize(("precision", "remainder"), FORMS)
def test_nvidias_parser_and_builder_take_blocks_and_networks(precision: Precision, remainder: Remainder) -> None:
    require_rtx()
    graphs = [block_graph(spec) for spec in some_blocks("mobilenet_v3/small", 3)]
    for graph in [*graphs, block_graph(MBCONV), random_network(1), network_graph(mobilenet_v3_small(64, 10))]:
        assert build(graph_in_precision(graph, precision, remainder=remainder)) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "remainder"), [("fp32", "fp32"), *FORMS])
@pytest.mark.parametrize("extreme", ["largest", "smallest"])
def test_nvidias_parser_and_builder_take_networks_of_cells(
    extreme: str, precision: Precision, remainder: Remainder
) -> None:
    require_rtx()
    space = get_space("nasnet/small")
    model = network_graph(space.network(getattr(space, extreme)))
    assert build(graph_in_precision(model, precision, remainder=remainder)) > 0


def test_half_precision_computes_the_same_to_its_precision() -> None:
    model = random_network(2)
    images = normal(1, 3, *(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]))
    full, half = run(model, images)[0], run(graph_in_precision(model, "fp16"), images)[0]
    assert 0 < np.abs(half - full).max() < 0.01 * np.abs(full).max()


def test_fp32_is_the_graph_itself() -> None:
    model = block_graph(MBCONV)
    assert graph_in_precision(model, "fp32") is model


def test_pairs_stand_where_tensorrt_fuses_them() -> None:
    model = quantized_graph(block_graph(MBCONV), remainder="fp32")
    reads = {node.name: list(node.input) for node in model.graph.node}
    dequantised = {name: [read.endswith(".dequantized") for read in inputs] for name, inputs in reads.items()}
    # Input and weight of each convolution, never its bias; of the addition the shortcut alone; no gate.
    for convolution in ("0.expand.conv", "0.depthwise.conv", "0.project.conv"):
        assert dequantised[convolution] == [True, True, False]
    assert reads["0.skip"] == ["input.dequantized", "0.project.conv"]
    for floating in ("0.se.reduce", "0.se.expand", "0.se.pool", "0.expand.activation", "0.depthwise.activation"):
        assert not any(dequantised[floating])
    # The block's input is quantised once, for the expansion and for the shortcut.
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 6


@pytest.mark.parametrize("remainder", ["fp32", "fp16"])
def test_all_quantisation_is_signed_symmetric_and_of_channels_for_weights(remainder: Remainder) -> None:
    model = quantized_graph(random_network(3), remainder=remainder)
    parameters = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        source, scale, zero = node.input
        assert parameters[zero].dtype == np.int8
        assert not parameters[zero].any()
        assert (parameters[scale] > 0).all()
        assert parameters[scale].dtype == (np.float16 if remainder == "fp16" else np.float32)
        weight = source in parameters or source.removesuffix(".quantized") in parameters
        assert parameters[scale].ndim == (1 if weight else 0)
    stored = [array.dtype for name, array in parameters.items() if name.endswith(".weight.quantized")]
    assert bool(stored) == (remainder == "fp16")  # TensorRT 8 wants weights in floating point


def test_a_weight_is_within_half_a_step_of_itself() -> None:
    weight = normal(8, 4, 3, 3)
    weight[0] = 0
    weight[1] *= 1e-6
    for kind in (np.float32, np.float16):
        scales = weight_scales(weight.astype(kind), 0)
        error = quantised_weight(weight, scales, 0) * scales.astype(np.float32).reshape(-1, 1, 1, 1) - weight
        # A scale in float16 may be rounded down by 2⁻¹¹ of itself, and then saturates the largest weight.
        assert (np.abs(error) <= (0.5 + 127 / 2**11) * scales.astype(np.float32).reshape(-1, 1, 1, 1)).all()


def two_branches() -> ModelProto:
    """A residual block whose shortcut has a convolution too: conv(input) + conv(conv(input))."""
    weights = [
        numpy_helper.from_array(normal(4, 4, 1, 1), name) for name in ("first.weight", "second.weight", "short.weight")
    ]
    nodes = [
        helper.make_node("Conv", ["input", "first.weight"], ["first"], name="first"),
        helper.make_node("Conv", ["input", "short.weight"], ["short"], name="short"),
        helper.make_node("Conv", ["first", "second.weight"], ["second"], name="second"),
        helper.make_node("Add", ["second", "short"], ["output"], name="add"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 5, 5]) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "two branches", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_of_two_convolutions_that_are_added_the_later_one_is_fused() -> None:
    layers = {layer.name: layer for layer in quantisable_layers(two_branches())}
    assert layers["second"].tensors == ("first", "short")
    assert layers["short"].tensors == ("input",)
    model = quantized_graph(two_branches(), remainder="fp32")
    onnx.checker.check_model(model, full_check=True)
    assert {node.name: list(node.input) for node in model.graph.node}["add"] == ["second", "short.dequantized"]


def test_layers_that_are_not_named_stay_as_they_are() -> None:
    graph = block_graph(MBCONV)
    one = [layer for layer in quantisable_layers(graph) if layer.name == "0.depthwise.conv"]
    model = insert_qdq(graph, one, {"0.expand.activation": 0.1})
    assert sum(node.op_type == "DequantizeLinear" for node in model.graph.node) == 2
    with pytest.raises(KeyError, match=r"0\.expand\.activation"):
        insert_qdq(graph, one, {})


def activations(model: ModelProto, names: list[str], images: Array) -> dict[str, Array]:
    """Values of inner tensors."""
    opened = ModelProto()
    opened.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    wanted = [name for name in names if name not in known]
    opened.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    names = [value.name for value in opened.graph.output]
    return dict(zip(names, run(opened, images), strict=True)) | {"input": images}


def largest_error(model: ModelProto, layer: Layer, x: Array, scale: float) -> Array:
    """How far quantisation can move a layer's output: Σ |w|·s/2 + Σ |x|·sʷ/2 + their product, over its window."""
    node = next(node for node in model.graph.node if node.name == layer.name)
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == layer.weight)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    shape = (-1, *[1] * (weight.ndim - 1))
    step = np.broadcast_to(weight_scales(weight, layer.axis).reshape(shape) / 2, weight.shape)
    dx = np.full_like(x, scale / 2)

    def product(a: Array, b: Array) -> torch.Tensor:
        if node.op_type == "Gemm":
            return functional.linear(torch.from_numpy(a), torch.from_numpy(b.copy()))
        pads, strides = attributes["pads"][:2], attributes["strides"]
        return functional.conv2d(
            torch.from_numpy(a), torch.from_numpy(b.copy()), None, strides, pads, groups=attributes["group"]
        )

    found: Array = (product(dx, np.abs(weight) + step) + product(np.abs(x), step)).numpy()
    return found


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_layer_of_a_random_subnet_computes_within_its_quantisation_error(seed: int) -> None:
    model = random_network(seed)
    side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    images = np.random.default_rng(seed).standard_normal((1, 3, side, side)).astype(np.float32)
    layers = quantisable_layers(model)
    tensors = sorted({tensor for layer in layers for tensor in layer.tensors})
    values = activations(model, tensors, images)
    scales = {tensor: float(np.abs(values[tensor]).max()) / 127 for tensor in tensors}
    outputs = [layer.weight_read.reader for layer in layers]
    exact = activations(model, outputs, images)
    for layer, output in zip(layers, outputs, strict=True):
        # Each alone, so that its input is the float graph's.
        alone = activations(insert_qdq(model, [layer], scales), [output], images)[output]
        x = values[layer.tensors[0]]
        allowed = largest_error(model, layer, x, scales[layer.tensors[0]])
        assert (np.abs(alone - exact[output]) <= allowed * 1.001 + 1e-5).all(), layer.name


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31), remainder=st.sampled_from(["fp32", "fp16"]))
def test_plausible_scales_keep_every_activation_of_a_random_subnet_alive(seed: int, remainder: Remainder) -> None:
    model = quantized_graph(random_network(seed), remainder=remainder)
    side = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    quantised = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    weights = {f"{tensor.name}.quantized" for tensor in model.graph.initializer}
    tensors = sorted(set(quantised) - weights)
    kind = TensorProto.INT8
    model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in tensors)
    logits, *integers = run(model, normal(1, 3, side, side))
    assert np.isfinite(logits).all()
    for name, values in zip(tensors, integers, strict=True):
        assert values.any(), name
        assert (np.abs(values.astype(int)) >= 127).mean() < 0.25, name
