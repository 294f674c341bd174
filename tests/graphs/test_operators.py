"""What is read of a model's operators: the work of each, and which tensors it passes on."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from hwnas.agent.canary import CANARY_SHA256, canary_onnx
from hwnas.graphs import block_graph, network_graph, read_operators
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")


@pytest.mark.parametrize("seed", range(5))
def test_a_network_has_the_work_of_its_blocks(seed: int) -> None:
    genome = SPACE.sample(np.random.default_rng(seed), 1)
    blocks = SPACE.blocks(SPACE.decode(genome)[0])
    whole = read_operators(network_graph(blocks, batch=2).SerializeToString())
    parts = [read_operators(block_graph(block).SerializeToString()) for block in blocks]
    assert sum(o.macs for o in whole.operators) == 2 * SPACE.macs(genome)[0]
    assert sum(o.macs for o in whole.operators) == 2 * sum(o.macs for part in parts for o in part.operators)
    assert [o.weights for o in whole.operators] == [o.weights for part in parts for o in part.operators]
    assert (whole.inputs, whole.outputs) == (("input",), ("logits",))
    assert all(whole.readers[o.output] >= 1 for o in whole.operators)


def test_a_convolution_tells_window_and_groups_and_a_residual_both_of_its_inputs() -> None:
    block = next(block for block in SPACE.distinct_blocks if block.skip and block.kernel == 5 and block.se)
    model = read_operators(block_graph(block).SerializeToString())
    depthwise = next(o for o in model.operators if o.groups > 1)
    assert (depthwise.kernel, depthwise.groups) == (5, block.mid_channels)
    assert model.elements(depthwise.output) == block.mid_channels * block.out_height * block.out_width
    assert model.operators[-1].op == "Add" and "input" in model.operators[-1].inputs
    assert model.readers["input"] == 2


@pytest.mark.parametrize("name", CANARY_SHA256)
def test_what_follows_from_constants_is_a_parameter(name: str) -> None:
    model = read_operators(canary_onnx(name))
    assert model.inputs == ("image",)
    assert not {o.op for o in model.operators} & {"Constant", "ConstantOfShape"}
    assert sum(o.weights for o in model.operators) > 1000


@pytest.mark.parametrize(("transposed", "shape"), [(0, [8, 3]), (1, [3, 8])])
def test_a_linear_layer_may_have_its_weight_either_way(transposed: int, shape: list[int]) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=transposed)
    assert read_operators(_model(node, [2, 8], shape)).operators[0].macs == 2 * 3 * 8
    if not transposed:
        matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
        assert read_operators(_model(matmul, [2, 8], shape)).operators[0].macs == 2 * 3 * 8


def test_what_is_no_model_of_static_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="no ONNX model"):
        read_operators(b"no model")
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    with pytest.raises(ValueError, match="'x' has the shape"):
        read_operators(_model(node, ["n", 8], [8, 3]))
    unknown = helper.make_node("Riddle", ["x", "w"], ["z"], domain="nowhere", name="riddle")
    with pytest.raises(ValueError, match="cannot be inferred"):
        read_operators(_model(unknown, [2, 8], [8, 3]))
    with pytest.raises(ValueError, match="tensor 'z' at node 'riddle'"):
        read_operators(_model(unknown, [2, 8], [8, 3], domain="nowhere"))


def _model(node: object, rows: list[object], weight: list[int], domain: str = "") -> bytes:
    """A model that takes ``x`` of shape ``rows`` and a weight ``w`` and gives ``y``."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, rows)
    weights = helper.make_tensor("w", TensorProto.FLOAT, weight, [0.0] * (weight[0] * weight[1]))
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([node], "g", [image], [output], [weights])
    opsets = [helper.make_opsetid(name, 17) for name in {"", domain}]
    return bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
