"""Channels of networks of every family: fires, cells that add and concatenate, and detectors, as well as chains."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from hwnas.export import export_onnx
from hwnas.spaces import BlockSpec, Network, Space, get_space
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.supernet.pruning import MULTIPLE, Layout, Widths, channel_importance, narrowed, narrowest, pruning_path

CLASSES = 3
FAMILIES = ("mobilenet_v3", "proxyless", "resnet", "fire", "fire-bypass", "nasnet")
DETECTORS = ("mobilenet_v3-bifpn", "fire-bifpn", "nasnet-bifpn")


@cache
def space_of(family: str) -> Space:
    if family in DETECTORS:
        return get_space(f"{family}/small", CLASSES)
    name, _, variant = family.partition("-")
    return get_space(f"{name}/small{variant and f'-{variant}'}", CLASSES)


def untrained(network: Network) -> PlainNetwork:
    """With norms that shift their channels, so that one that is silent before its norm is not behind it.

    Where all that an output reads is silent, as ReLUs may be at a coarse level of few channels, its bias is left.
    """
    plain = PlainNetwork(network).eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.normal_(std=0.3)
            module.running_mean.data.normal_(std=0.3)  # type: ignore[union-attr]
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            module.bias.data.normal_(std=0.01)
    return plain


def images_of(network: Network, count: int = 2) -> torch.Tensor:
    side = network.blocks[0].in_height
    return torch.randn(count, 3, side, side)


def columns(plain: PlainNetwork, layout: Layout, number: int) -> Iterator[torch.Tensor]:
    """The weights that read each channel of a set, [out, channels, …], wherever they stand in a layer."""
    for path, _, read in layout.layers():
        if read is not None:
            module = plain.get_submodule(path)
            weight = getattr(module, "conv", module).weight
            assert isinstance(weight, torch.Tensor)
            begin = 0
            for part in layout.parts[read]:
                width = layout.widths[part]
                if part == number:
                    yield weight[:, begin : begin + width]
                begin += width
            assert begin == weight.shape[1]


def silenced(plain: PlainNetwork, layout: Layout, widths: Widths, rng: np.random.Generator) -> dict[int, torch.Tensor]:
    """Make all that reads the channels which are too many ignore them, any of each set; returns what is important."""
    after = {number: width for group, width in zip(layout.groups, widths, strict=True) for number in group.sets}
    for block, spec in enumerate(layout.narrowed(widths).blocks):
        if spec.se:
            after[layout.set_of[block, "se.reduce"]] = spec.se_channels
    important = {}
    for number, width in after.items():
        important[number] = torch.ones(layout.widths[number])
        gone = torch.from_numpy(rng.choice(layout.widths[number], layout.widths[number] - width, replace=False))
        important[number][gone] = 0
        for weight in columns(plain, layout, number):
            with torch.no_grad():
                weight[:, gone] = 0
    return important


def outputs_of(plain: PlainNetwork, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        found = plain(images)
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=8, deadline=None)
def test_what_nothing_listens_to_goes_without_a_trace(family: str, seed: int) -> None:
    goes_without_a_trace(family, seed)


@pytest.mark.parametrize("family", DETECTORS)
@given(seed=st.integers(0, 2**31))
@example(seed=46)
@settings(max_examples=3, deadline=None)
def test_what_nothing_listens_to_goes_from_all_levels(family: str, seed: int) -> None:
    goes_without_a_trace(family, seed)


def goes_without_a_trace(family: str, seed: int) -> None:
    """Any architecture, narrowed to anywhere on a path: all its widths at once."""
    rng, space = np.random.default_rng(seed), space_of(family)
    torch.manual_seed(seed)
    (architecture,) = space.decode(space.sample(rng, 1))
    network = space.network(architecture)
    layout = Layout(network, space.sharing(architecture))
    importance = {number: torch.rand(group.width) for group in layout.groups for number in group.sets}
    path = pruning_path(layout, importance, rng.uniform(0.5, 2, len(layout.groups)).tolist())
    assert path[0] == tuple(group.width for group in layout.groups)
    assert layout.narrowed(path[0]) == network
    widths = path[rng.integers(1, len(path))]
    plain, images = untrained(network), images_of(network)
    important = silenced(plain, layout, widths, rng)
    narrow = narrowed(plain, layout, widths, important)
    for expected, found in zip(outputs_of(plain, images), outputs_of(narrow, images), strict=True):
        assert expected.std() > 0
        torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=3, deadline=None)
def test_each_step_of_a_path_is_a_smaller_network(family: str, seed: int) -> None:
    rng, space = np.random.default_rng(seed), space_of(family)
    network = space.network(space.decode(space.sample(rng, 1))[0])
    layout = Layout(network)
    alike = {number: torch.ones(group.width) for group in layout.groups for number in group.sets}
    path = pruning_path(layout, alike, rng.uniform(0.5, 2, len(layout.groups)).tolist())
    steps = [layout.narrowed(widths) for widths in path]  # a network checks itself
    for before, after in pairwise(steps):
        assert sum(block.params for block in after.blocks) < sum(block.params for block in before.blocks)
    for block in steps[-1].blocks[:-1]:
        assert not any(
            getattr(block, name) % MULTIPLE for name in ("mid_channels", "out_channels", "spatial_channels")
        ), block
    assert max(path[-1]) <= 2 * MULTIPLE


@pytest.mark.parametrize("family", ["fire-bypass", "nasnet"])
def test_a_narrow_network_is_exported_as_it_computes(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    space = space_of(family)
    network = space.network(space.smallest)
    layout = Layout(network)
    plain = untrained(network)
    images = images_of(network)
    importance = channel_importance(plain, layout, [cross_entropy(plain(images), torch.arange(2))])
    narrow = narrowed(plain, layout, narrowest(layout), importance)
    model = export_onnx(narrow, images.shape[-1], tmp_path / "narrow.onnx", metadata={}, images=images)
    assert model.parity is not None and narrow.network != network


STEM = BlockSpec("conv", 3, 8, 8, 8, kernel=3, stride=2)


def fire(ins: int, outs: int, spatial: int, skip: bool = False) -> BlockSpec:
    return BlockSpec("fire", ins, 4, 4, outs, 8, 3, skip=skip, spatial_channels=spatial)


FIRES = Network.of([STEM, fire(8, 32, 8), fire(32, 32, 16, skip=True), BlockSpec("head", 32, 4, 4, CLASSES)])


def in_cell(op: str, kernel: int = 1) -> BlockSpec:
    return BlockSpec(op, 8, 4, 4, 8, kernel=kernel, activation="relu" if op == "separable" else "none")


CELL = Network(
    (
        STEM,
        in_cell("adapt"),
        in_cell("adapt"),
        in_cell("separable", kernel=3),
        in_cell("max_pool", kernel=3),
        in_cell("add"),
        in_cell("average_pool", kernel=3),
        in_cell("separable", kernel=5),
        in_cell("add"),
        BlockSpec("concat", 8, 4, 4, 24),
        BlockSpec("adapt", 24, 4, 4, 16, activation="none"),
        BlockSpec("head", 16, 4, 4, CLASSES),
    ),
    ((-1,), (0,), (0,), (1,), (2,), (3, 4), (1,), (5,), (6, 7), (5, 8, 5), (9,), (10,)),
    (("logits", 11),),
)
"""Two nodes of two operations each; the concatenation has the first of them twice."""


def test_a_bypass_divides_the_parts_of_both_its_ends() -> None:
    layout = Layout(FIRES)
    stream = layout.set_of[1, "out"]
    assert layout.set_of[2, "out"] == stream
    first, both, last = layout.parts[stream]
    assert [layout.widths[part] for part in (first, both, last)] == [16, 8, 8]
    assert layout.parts[layout.set_of[1, "pointwise"]] == (first, both)
    assert layout.parts[layout.set_of[1, "spatial"]] == (last,)
    assert layout.parts[layout.set_of[2, "pointwise"]] == (first,)
    assert layout.parts[layout.set_of[2, "spatial"]] == (both, last)
    widths = [group.width for group in layout.groups]
    widths[[group.sets for group in layout.groups].index((first,))] = 8
    assert layout.narrowed(widths).blocks[1:3] == (fire(8, 24, 8), fire(24, 24, 16, skip=True))


def test_what_a_cell_concatenates_is_equally_wide_but_keeps_channels_of_its_own() -> None:
    layout = Layout(CELL)
    node, other = (layout.set_of[block, "out"] for block in (5, 8))
    assert layout.parts[layout.set_of[9, "out"]] == (node, other, node)
    # What a pool gives is what it takes, and a sum ties it to what it is added to.
    assert (node, other) == (layout.set_of[2, "out"], layout.set_of[1, "out"])
    (group,) = (group for group in layout.groups if node in group.sets)
    inside = [layout.set_of[block, "first.mix"] for block in (3, 7)]
    assert group.sets == tuple(sorted({node, other, *inside})) and len(group.sets) == 4


def test_maps_that_must_be_equally_wide_are_divided_alike() -> None:
    """A concatenation of the two parts of a fire, as one map, and of a map without parts."""
    blocks = (
        STEM,
        fire(8, 24, 8),
        BlockSpec("conv", 8, 4, 4, 24, kernel=3),
        BlockSpec("concat", 24, 4, 4, 48),
        BlockSpec("head", 48, 4, 4, CLASSES),
    )
    network = Network(blocks, ((-1,), (0,), (0,), (1, 2), (3,)), (("logits", 4),))
    layout = Layout(network)
    pointwise, spatial = layout.parts[layout.set_of[1, "out"]]
    beside = layout.parts[layout.set_of[2, "out"]]
    assert [layout.widths[part] for part in beside] == [16, 8]
    assert {group.sets for group in layout.groups} >= {(pointwise, beside[0]), (spatial, beside[1])}
    end = layout.narrowed(narrowest(layout))
    assert [block.out_channels for block in end.blocks] == [8, 16, 16, 32, CLASSES]


@pytest.mark.parametrize("network", [FIRES, CELL], ids=["fires", "cell"])
def test_importance_is_the_slope_of_the_loss_as_a_channel_closes(network: Network) -> None:
    torch.manual_seed(0)
    plain, layout = untrained(network).double(), Layout(network)
    images, labels = images_of(network, CLASSES).double(), torch.arange(CLASSES)
    importance = channel_importance(plain, layout, [cross_entropy(plain(images), labels)])

    @torch.no_grad()
    def loss(number: int, channel: int, gate: float) -> float:
        weights = [weight[:, channel] for weight in columns(plain, layout, number)]
        before = [weight.clone() for weight in weights]
        for weight, open_weight in zip(weights, before, strict=True):
            weight.copy_(gate * open_weight)
        found = cross_entropy(plain(images), labels).item()
        for weight, open_weight in zip(weights, before, strict=True):
            weight.copy_(open_weight)
        return found

    numbers = [number for group in layout.groups for number in group.sets]
    assert importance.keys() >= {*numbers}
    for number in numbers:
        slopes = [
            (loss(number, channel, 1 + 1e-5) - loss(number, channel, 1 - 1e-5)) / 2e-5
            for channel in range(layout.widths[number])
        ]
        expected = torch.tensor(slopes, dtype=torch.double).square()
        torch.testing.assert_close(importance[number], expected, rtol=1e-3, atol=1e-9)
        assert expected.max() > 1e-9


def test_what_levels_share_loses_the_same_channels() -> None:
    torch.manual_seed(0)
    space = space_of("mobilenet_v3-bifpn")
    architecture, sharing = space.largest, space.sharing(space.largest)
    plain = ElasticNetwork(space).extract(architecture).eval()
    layout = Layout(plain.network, sharing)
    losses = (sum(each.square().mean() for each in plain(images)) for images in [images_of(plain.network)])
    narrow = narrowed(plain, layout, narrowest(layout), channel_importance(plain, layout, losses))
    towers = [(number, other) for number, other in sharing.items() if number != other]
    assert len(towers) == 2 * 3 * 3  # two layers and a prediction, on three more levels, of two towers
    for number, other in towers:
        assert narrow.specs[number].in_channels < plain.specs[number].in_channels
        for one, same in zip(convolutions(narrow[number]), convolutions(narrow[other]), strict=True):
            assert torch.equal(one.weight, same.weight)


def convolutions(block: torch.nn.Module) -> list[torch.nn.Conv2d]:
    return [module for module in block.modules() if isinstance(module, torch.nn.Conv2d)]
