from __future__ import annotations

import json
import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.graphs import INPUT, NETWORK_OUTPUT, Node, node_list
from hwnas.spaces import BlockSpec, get_space
from hwnas.spaces.block import Activation
from hwnas.supernet import mobilenet_v3_small

sizes = st.integers(1, 17)
channels = st.integers(1, 6).map(lambda n: 8 * n)


@st.composite
def specs(draw: st.DrawFn) -> BlockSpec:
    op = draw(st.sampled_from(["conv", "mbconv", "head"]))
    ins, out = draw(channels), draw(channels)
    stride = draw(st.sampled_from([1, 2]))
    activation: Activation = draw(st.sampled_from(get_args(Activation)))
    common = (ins, draw(sizes), draw(sizes), out)
    if op == "head":
        return BlockSpec("head", *common, draw(channels), activation=activation)
    kernel = draw(st.sampled_from([1, 3, 5, 7]))
    if op == "conv":
        return BlockSpec("conv", *common, 0, kernel, stride, activation=activation)
    skip = stride == 1 and ins == out
    mid = ins * draw(st.sampled_from([1, 2, 4]))
    return BlockSpec("mbconv", *common, mid, kernel, stride, draw(st.booleans()), activation, skip)


def macs(node: Node) -> int:
    """Each output value of a convolution or linear layer takes as many products as a filter has weights."""
    if "weight" not in node["parameters"]:
        return 0
    return math.prod(node["shape"]) * math.prod(node["parameters"]["weight"][1:])


@given(specs())
def test_a_block_has_the_shape_macs_and_parameters_that_its_spec_says(spec: BlockSpec) -> None:
    nodes = node_list([spec])
    expected = [spec.out_channels] if spec.op == "head" else [spec.out_channels, spec.out_height, spec.out_width]
    assert nodes[-1]["shape"] == expected
    assert sum(map(macs, nodes)) == spec.macs
    # Folding leaves one of a norm's two parameters a channel, as the convolution's bias.
    folded = sum(node["parameters"]["bias"][0] for node in nodes if node["name"].endswith(".conv"))
    assert (
        sum(math.prod(shape) for n in nodes for shape in n["parameters"].values())
        == spec.params - folded
        == spec.weights
    )


@given(specs())
def test_peak_activations_are_those_of_the_operations_one_after_the_other(spec: BlockSpec) -> None:
    nodes = node_list([spec])
    last_use = {tensor: i for i, node in enumerate(nodes) for tensor in node["inputs"]}
    sizes = {"input": spec.in_channels * spec.in_height * spec.in_width}
    alive, peak = {"input"}, 0
    for i, node in enumerate(nodes):
        done = {tensor for tensor in alive if last_use[tensor] == i}
        sizes[node["output"]] = math.prod(node["shape"])
        in_place = node["op"] not in ("Conv", "GlobalAveragePool", "Gemm")
        peak = max(peak, sum(sizes[t] for t in alive) + (0 if in_place else sizes[node["output"]]))
        alive = alive - done | {node["output"]}
    assert peak == spec.peak_activations


@given(st.data())
def test_nodes_are_in_order_have_unique_names_and_survive_json(data: st.DataObject) -> None:
    space = get_space(f"mobilenet_v3/{data.draw(st.sampled_from(['small', 'imagenet-w1.0', 'imagenet-w1.2']))}")
    genome = space.sample(np.random.default_rng(data.draw(st.integers(0, 2**32))), 1)
    nodes = node_list(space.blocks(space.decode(genome)[0]))
    written = {INPUT}
    for node in nodes:
        assert set(node["inputs"]) <= written
        assert node["output"] not in written
        written.add(node["output"])
    assert nodes[-1]["output"] == NETWORK_OUTPUT
    assert len({node["name"] for node in nodes}) == len(nodes)
    assert json.loads(json.dumps(nodes)) == nodes


def test_blocks_that_do_not_fit_each_other_are_refused() -> None:
    blocks = mobilenet_v3_small(64, 10)
    with pytest.raises(ValueError, match=r"block 1 .* takes \[24, 8, 8\], but gets \[16, 32, 32\]"):
        node_list([blocks[0], blocks[3]])
    with pytest.raises(ValueError, match="at least one block"):
        node_list([])
