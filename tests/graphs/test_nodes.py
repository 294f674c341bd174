from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hwnas.graphs import INPUT, NETWORK_OUTPUT, node_list
from hwnas.spaces import BlockSpec, Network, get_space, space_names
from hwnas.spaces.block import Activation
from hwnas.spaces.operations import OPERATIONS
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import PlainNetwork

sizes = st.integers(1, 17)
spaces = st.sampled_from([get_space(name) for name in space_names()])
channels = st.integers(1, 6).map(lambda n: 8 * n)


@st.composite
def specs(draw: st.DrawFn) -> BlockSpec:
    op = draw(st.sampled_from(list(OPERATIONS)))
    ins, out = draw(channels), draw(channels)
    stride = draw(st.sampled_from([1, 2]))
    activation: Activation = draw(st.sampled_from(get_args(Activation)))
    height, width = draw(sizes), draw(sizes)
    common = (ins, height, width, out)
    if op == "head":
        return BlockSpec(op, *common, draw(st.just(0) | channels), activation=activation)
    kernel = draw(st.sampled_from([1, 3, 5, 7]))
    skip = stride == 1 and ins == out
    if op in ("add", "concat"):
        inputs = draw(st.integers(1, 4)) if op == "concat" else 1
        return BlockSpec(op, ins, height, width, ins * inputs, activation="none" if op == "concat" else activation)
    if op == "adapt":
        sized = (ins, height * stride, width * stride, out)
        return BlockSpec(op, *sized, stride=stride, activation="none")
    if op.startswith("fuse"):
        return BlockSpec(op, ins, 2 * height, 2 * width, ins, kernel=3, activation=activation)
    if op == "separable":
        return BlockSpec(op, *common, 0, kernel, stride, activation="relu")
    if op in ("separable_conv", "predict"):
        return BlockSpec(op, *common, kernel=kernel, activation=activation if op == "separable_conv" else "none")
    if op in ("max_pool", "average_pool"):
        return BlockSpec(op, ins, height, width, ins, 0, kernel, stride, activation="none")
    if op == "conv":
        return BlockSpec(op, *common, 0, kernel, stride, activation=activation, skip=skip)
    if op == "bottleneck":
        # A pool by the stride covers no odd sizes.
        sized = (ins, height * stride, width * stride, out)
        return BlockSpec(op, *sized, draw(channels), kernel, stride, activation=activation, skip=skip)
    if op == "fire":
        spatial = draw(st.integers(1, out - 1))
        skip = ins == out and draw(st.booleans())
        return BlockSpec(
            op, *common, draw(channels), kernel, activation=activation, skip=skip, spatial_channels=spatial
        )
    mid = ins * draw(st.sampled_from([1, 2, 4]))
    return BlockSpec(op, *common, mid, kernel, stride, draw(st.booleans()), activation, skip)


def work(network: nn.Module, images: Sequence[torch.Tensor]) -> tuple[int, tuple[int, ...]]:
    """Multiply-accumulates of a module's layers, as they are executed, and the shape of its output."""
    found = []

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        found.append(output[0].numel() * layer.weight[0].numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        shape = tuple(network.eval()(*images).shape[1:])
    return sum(found), shape


@given(specs())
@settings(max_examples=60)
def test_a_block_has_the_shape_macs_and_parameters_of_its_module(spec: BlockSpec) -> None:
    described = Network.of_block(spec)
    network = PlainNetwork(described)
    macs, shape = work(network, [torch.zeros(1, *shape) for shape in spec.input_shapes])
    last = node_list(described)[-1]["shape"]
    assert shape == tuple(last) == ((spec.out_channels, spec.out_height, spec.out_width)[: len(shape)])
    assert macs == spec.macs
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.params
    norms = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert spec.params - norms == spec.weights


def expected_peak(spec: BlockSpec) -> int:
    """Most activations alive at once, by thinking each operation through."""
    pixels_in, pixels_out = spec.in_height * spec.in_width, spec.out_height * spec.out_width
    taken, given, mid = spec.in_channels * pixels_in, spec.out_channels * pixels_out, spec.mid_channels
    if spec.op in ("conv", "max_pool", "average_pool"):
        return taken + given
    if spec.op == "adapt":
        pooled = spec.in_channels * pixels_out
        return max(taken + pooled, pooled + given) if spec.stride > 1 else taken + given
    if spec.op == "separable":
        filtered = spec.in_channels * pixels_out
        return max(taken + filtered, 2 * filtered, filtered + given)
    if spec.op in ("separable_conv", "predict"):
        return max(2 * taken, taken + given)
    if spec.op.startswith("fuse"):  # what is resampled, that in this level's size, and the sum
        return (taken // 4 if spec.op == "fuse_coarser" else 4 * taken) + 2 * taken
    if spec.op == "add":
        return 2 * taken
    if spec.op == "concat":
        return 2 * given
    if spec.op == "head":
        ins = spec.in_channels
        return max(taken + ins, ins + mid, mid + given) if mid else max(taken + ins, ins + given)
    expanded, filtered = mid * pixels_in, mid * pixels_out
    kept = taken if spec.skip else 0
    if spec.op == "bottleneck":
        pooled = spec.in_channels * pixels_out if spec.stride > 1 else 0
        inside = max(taken + expanded + filtered, taken + filtered + given)
        if spec.skip:
            return inside
        return max(inside, given + taken + pooled, given + (pooled or taken) + given)
    if spec.op == "fire":  # both branches, and then what joins them
        return max(taken + expanded, kept + expanded + given, kept + 2 * given)
    most = max(taken + filtered, kept + filtered + given)
    if spec.se:
        most = max(most, kept + filtered + mid + spec.se_channels)
    return max(most, taken + expanded, kept + expanded + filtered) if spec.expands else most


@given(specs())
def test_peak_activations_are_those_of_the_operations_one_after_the_other(spec: BlockSpec) -> None:
    assert spec.peak_activations == expected_peak(spec)


@given(st.data())
def test_nodes_are_in_order_have_unique_names_and_survive_json(data: st.DataObject) -> None:
    space = data.draw(spaces)
    genome = space.sample(np.random.default_rng(data.draw(st.integers(0, 2**32))), 1)
    nodes = node_list(space.network(space.decode(genome)[0]))
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
