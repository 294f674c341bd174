"""The networks that everybody knows: as published at full width, chains of blocks at any."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwnas.spaces.yardsticks import YARDSTICKS, widths
from hwnas.supernet import PlainNetwork

PUBLISHED = {"MobileNetV2": 3_504_872, "MobileNetV3-Small": 2_542_856 - 1024, "EfficientNet-Lite": 4_652_008}
PUBLISHED_SQUEEZENET = 1_235_496
"""Parameters of torchvision's two, ours without the bias behind the pool, and of efficientnet-lite-pytorch."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_has_as_many_parameters_as_the_published_network(name: str) -> None:
    blocks = YARDSTICKS[name](224, 1000, 1.0, 5)
    assert sum(block.params for block in blocks) == PUBLISHED[name]
    assert blocks[-1].in_height == 7


def test_squeezenet_has_as_many_parameters_with_a_bias_in_the_place_of_each_norm() -> None:
    assert sum(block.weights for block in YARDSTICKS["SqueezeNet"](224, 1000, 1.0, 5)) == PUBLISHED_SQUEEZENET


@given(
    name=st.sampled_from(sorted(YARDSTICKS)),
    resolution=st.integers(24, 72),
    width=st.floats(0.05, 2),
    strides=st.integers(1, 5),
)
def test_blocks_fit_each_other_and_halve_the_input_as_often_as_asked(
    name: str, resolution: int, width: float, strides: int
) -> None:
    blocks = YARDSTICKS[name](resolution, 7, width, strides)
    for block, following in itertools.pairwise(blocks):
        shape = (block.out_channels, block.out_height, block.out_width)
        assert shape == (following.in_channels, following.in_height, following.in_width)
        assert block.out_channels % 8 == 0
    assert (blocks[0].in_height, blocks[-1].out_channels) == (resolution, 7)
    most = 4 if name == "SqueezeNet" else 5
    assert sum(block.stride == 2 for block in blocks) == min(strides, most)


@pytest.mark.parametrize("name", sorted(YARDSTICKS))
def test_wider_networks_cost_more_and_no_two_are_the_same(name: str) -> None:
    found = list(widths(lambda width: YARDSTICKS[name](48, 10, width, 4)))
    assert len(found) > 100
    costs = [sum(block.macs for block in blocks) for _, blocks in found]
    assert costs == sorted(costs)
    assert [width for width, _ in found] == sorted({width for width, _ in found})
    assert len({tuple(blocks) for _, blocks in found}) == len(found)


@pytest.mark.parametrize("name", sorted(YARDSTICKS))
def test_a_thin_one_runs(name: str) -> None:
    network = PlainNetwork(YARDSTICKS[name](32, 10, 0.2, 4)).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
