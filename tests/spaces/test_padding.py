"""Padding of strided convolutions: half the kernel on each side, or what TensorFlow calls "same"."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from hwnas.export import export_onnx
from hwnas.graphs import block_graph
from hwnas.spaces import BlockSpec
from hwnas.supernet import PlainNetwork
from hwnas.supernet.elastic import ElasticDepthwise

CONV = BlockSpec("conv", 3, 24, 24, 8, kernel=3, stride=2, padding="same_upper")
MBCONV = BlockSpec("mbconv", 8, 12, 12, 8, 16, 5, 2, activation="relu6", padding="same_upper")
HEAD = BlockSpec("head", 8, 6, 6, 4, activation="none")


@given(st.integers(1, 40), st.sampled_from([1, 3, 5, 7]), st.sampled_from([2, 3]))
def test_same_is_what_onnx_means_by_it(size: int, kernel: int, stride: int) -> None:
    spec = BlockSpec("conv", 1, size, size, 1, kernel=kernel, stride=stride, activation="none", padding="same_upper")
    stated = block_graph(spec)
    automatic = block_graph(spec)
    (node,) = automatic.graph.node
    del node.attribute[[attribute.name for attribute in node.attribute].index("pads")]
    node.attribute.add(name="auto_pad", type=3, s=b"SAME_UPPER")
    image = np.random.default_rng(0).standard_normal((1, 1, size, size)).astype(np.float32)
    found, expected = (ReferenceEvaluator(model).run(None, {"input": image})[0] for model in (stated, automatic))
    assert found.shape == expected.shape == (1, 1, spec.out_height, spec.out_width)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(st.integers(1, 20).map(lambda half: 2 * half + 1), st.sampled_from([3, 5]))
def test_both_are_the_same_where_a_stride_of_two_meets_an_odd_size(size: int, kernel: int) -> None:
    spec = BlockSpec("conv", 8, size, size, 8, kernel=kernel, stride=2, padding="same_upper")
    assert spec.nodes == replace(spec, padding="symmetric").nodes


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 30))
def test_a_small_kernel_in_the_middle_of_a_large_one_computes_the_same(size: int) -> None:
    depthwise = ElasticDepthwise(4, (3, 5), 2, "same_upper")
    with torch.no_grad():
        depthwise.conv.weight[:, :, [0, -1]] = 0
        depthwise.conv.weight[:, :, :, [0, -1]] = 0
        images = torch.randn(1, 4, size, size)
        assert torch.allclose(depthwise(images, 3), depthwise(images, 5), atol=1e-6)


def test_an_exported_network_is_the_one_that_latencies_are_measured_on(
    tmp_path: pytest.TempPathFactory, recwarn: pytest.WarningsRecorder
) -> None:
    network = PlainNetwork([CONV, MBCONV, HEAD]).eval()
    exported = export_onnx(network, 24, tmp_path / "x.onnx", metadata={}, images=torch.randn(2, 3, 24, 24))
    assert exported.parity is not None and exported.parity < 1e-4
    assert not recwarn.list


def test_the_key_says_it_only_where_it_is_not_symmetric() -> None:
    assert CONV.key == "conv:3x24x24:m0:o8:k3:s2:relu:same_upper"
    assert replace(CONV, padding="symmetric").key == "conv:3x24x24:m0:o8:k3:s2:relu"


@pytest.mark.parametrize(
    "spec",
    [
        BlockSpec("conv", 8, 8, 8, 8, kernel=3),
        BlockSpec("max_pool", 8, 8, 8, 8, kernel=3, stride=2, activation="none"),
        BlockSpec("bottleneck", 8, 8, 8, 8, 8, 3, 2),
    ],
    ids=["no stride", "pool", "bottleneck"],
)
def test_a_block_without_a_choice_of_padding_has_none(spec: BlockSpec) -> None:
    with pytest.raises(ValueError, match="no padding to choose"):
        replace(spec, padding="same_upper")
