"""The ImageNet presets against the published once-for-all latency tables, which name every block."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwnas.spaces import BlockSpec, get_space


def published_key(block: BlockSpec) -> str:
    """The key of an inverted residual in the published tables."""
    size = f"input:{block.in_height}x{block.in_width}x{block.in_channels}"
    out = f"output:{block.out_height}x{block.out_width}x{block.out_channels}"
    options = f"expand:{block.mid_channels}-kernel:{block.kernel}-stride:{block.stride}-idskip:{int(block.skip)}"
    flags = f"se:{int(block.se)}-hs:{int(block.activation == 'h_swish')}"
    return f"expanded_conv-{size}-{out}-{options}-{flags}"


@pytest.mark.parametrize("resolution", [160, 176, 192, 208, 224])
def test_every_block_is_a_published_one_and_none_is_missing(shared_data: Path, resolution: int) -> None:
    table = json.loads((shared_data / f"latency/ofa_tables/note10/{resolution}.json").read_text())
    space = get_space("mobilenet_v3/imagenet-w1.2")
    mine = {published_key(block) for block in space.distinct_blocks if block.op == "mbconv"}
    published = {key for key in table if key.startswith("expanded_conv")}
    # Other resolutions of the space have other feature sizes.
    sizes = {key.split("-")[1] for key in published}
    assert {key for key in mine if key.split("-")[1] in sizes} >= published
    at_resolution = {
        published_key(block)
        for slot in space.slots
        for block in [slot.build(resolution, 7, 6) if len(slot.choices) == 3 else slot.build(resolution)]
        if block is not None and block.op == "mbconv"
    }
    assert at_resolution <= published


def test_stem_and_head_are_the_published_ones(shared_data: Path) -> None:
    table = json.loads((shared_data / "latency/ofa_tables/note10/224.json").read_text())
    space = get_space("mobilenet_v3/imagenet-w1.2")
    stem, *_, final, head = space.blocks(space.largest)
    assert f"Conv-input:224x224x3-output:112x112x{stem.out_channels}" in table
    assert f"Conv_1-input:7x7x{final.in_channels}-output:7x7x{final.out_channels}" in table
    assert f"Conv_2-input:1x1x{head.in_channels}-output:1x1x{head.mid_channels}" in table
    assert f"Logits-input:1x1x{head.mid_channels}-output:{head.out_channels}" in table


# Counted on the subnets of OFAProxylessNASNets and OFAResNets of the package ofa 0.1.0.post202307202001.
PUBLISHED = {
    ("proxyless/imagenet-w1.3", "largest"): (7_942_056, 1_004_908_032),
    ("proxyless/imagenet-w1.3", "smallest"): (3_718_832, 87_823_104),
    ("resnet/imagenet", "largest"): (48_105_992, 7_491_643_904),
    ("resnet/imagenet", "smallest"): (6_539_280, 315_079_552),
}


@pytest.mark.parametrize(("name", "extreme"), PUBLISHED)
def test_the_extremes_are_as_large_as_those_of_the_package(name: str, extreme: str) -> None:
    space = get_space(name)
    genome = space.encode([getattr(space, extreme)])
    assert (space.params(genome)[0], space.macs(genome)[0]) == PUBLISHED[name, extreme]
