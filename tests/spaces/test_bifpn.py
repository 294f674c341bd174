"""Spaces of detectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.spaces import BlockSpec, get_space, space_names
from hwnas.spaces.bifpn import ANCHORS
from tests.detectors import thin_detectors

SPACE = get_space("mobilenet_v3-bifpn/small", 7)
THIN = thin_detectors()


def test_every_space_of_classifiers_has_one_of_detectors() -> None:
    assert [name.replace("-bifpn", "") for name in space_names("detection")] == space_names()
    assert not set(space_names("detection")) & set(space_names())


@pytest.mark.parametrize("name", space_names("detection"))
def test_each_level_has_half_the_places_of_the_one_before(name: str) -> None:
    space = get_space(name, 3)
    for architecture in (space.largest, space.smallest):
        network = space.network(architecture)
        shapes = {output: network.blocks[number].output_shape for output, number in network.outputs}
        kinds = {kind: [s for label, s in shapes.items() if label.startswith(kind)] for kind in ("class", "box")}
        assert len(kinds["class"]) == len(kinds["box"]) == len(shapes) // 2 >= 4
        for level, (classes, boxes) in enumerate(zip(kinds["class"], kinds["box"], strict=True)):
            size = kinds["class"][0][1] // 2**level
            assert classes == [ANCHORS * 3, size, size]
            assert boxes == [ANCHORS * 4, size, size]
        assert list(shapes) == sorted(shapes, key=lambda label: label.startswith("box"))


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_every_architecture_is_a_network(seed: int) -> None:
    for space in (SPACE, THIN):
        (architecture,) = space.decode(space.sample(np.random.default_rng(seed), 1))
        network = space.network(architecture)  # its shapes and wires are checked when it is made
        assert len(network.outputs) == 2 * sum(slot.label.startswith("class.p") for slot in space.slots)
        widths = {spec.in_channels for spec in network.blocks if spec.op in ("separable_conv", "predict")}
        assert widths == {architecture["bifpn.width"]}


def test_repeats_and_layers_are_as_many_as_chosen() -> None:
    def count(depth: int, towers: int) -> list[str]:
        return [spec.op for spec in SPACE.blocks(SPACE.architecture(bifpn_depth=depth, towers_depth=towers))]

    levels = 4
    once, twice = count(1, 1), count(2, 1)
    assert sum(op.startswith("fuse") for op in once) == 2 * (levels - 1)
    assert sum(op.startswith("fuse") for op in twice) == 4 * (levels - 1)
    assert len(count(1, 2)) - len(once) == 2 * levels


def test_what_is_taken_from_the_backbone_depends_on_what_decides_its_channels_alone() -> None:
    slots = {slot.label: slot for slot in SPACE.slots}
    assert slots["p8.input"].choices == ("resolution", "bifpn.width")
    widths = {slot.label: slot for slot in get_space("resnet-bifpn/small", 7).slots}
    assert widths["p8.input"].choices == ("resolution", "stage2.width", "bifpn.width")


def test_levels_that_a_backbone_does_not_reach_are_pooled() -> None:
    labels = [slot.label for slot in THIN.slots]
    assert "head" not in labels
    assert "final" not in labels
    ops = {slot.label: slot.build(32, 8).op for slot in THIN.slots if slot.label.endswith(".input")}
    assert ops == {"p4.input": "conv", "p8.input": "conv", "p16.input": "max_pool"}


@pytest.mark.parametrize("preset", ["small", "imagenet"])
def test_the_coarsest_level_comes_from_the_last_cell_that_stands(preset: str) -> None:
    space = get_space(f"nasnet-bifpn/{preset}", 3)
    for architecture in (*space.decode(space.sample(np.random.default_rng(0), 10)), space.smallest):
        network = space.network(architecture)  # which refuses a cell that nobody reads
        blocks = network.blocks
        laterals = [number for number, spec in enumerate(blocks) if spec.op == "conv" and spec.kernel == 1]
        assert {blocks[network.sources[number][0]].op for number in laterals} == {"adapt", "concat"}
        cells = [number for number, spec in enumerate(blocks) if spec.op == "concat"]
        assert network.sources[laterals[-1]] == (cells[-1],)


def test_counts_by_hand() -> None:
    """8 channels of 4 × 4 pixels; a fusion of two maps has one product a pixel and scale, but no convolution."""
    separable = BlockSpec("separable_conv", 8, 4, 4, 16, kernel=3, activation="relu")
    assert separable.macs == 16 * (8 * 9 + 8 * 16)
    assert separable.params == 8 * 9 + 8 * 16 + 2 * 16
    assert separable.output_shape == [16, 4, 4]
    predict = BlockSpec("predict", 8, 4, 4, 18, kernel=3, activation="none")
    assert predict.params == predict.weights == 8 * 9 + 8 * 18 + 18
    fuse = BlockSpec("fuse_finer_twice", 8, 4, 4, 8, kernel=3)
    assert fuse.input_shapes == [[8, 4, 4], [8, 4, 4], [8, 8, 8]]
    assert (fuse.params, fuse.macs, fuse.output_shape) == (3, 0, [8, 4, 4])
    assert BlockSpec("fuse_coarser", 8, 4, 4, 8, kernel=3).input_shapes == [[8, 4, 4], [8, 2, 2]]
