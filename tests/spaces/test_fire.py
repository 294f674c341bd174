from __future__ import annotations

import itertools

import pytest

from hwnas.errors import UserError
from hwnas.spaces import BlockSpec, get_space
from hwnas.spaces.fire import squeezenet

FIRE = {"mid_channels": 16, "kernel": 3, "spatial_channels": 64}


def test_squeezenet_is_one_of_its_architectures() -> None:
    space = get_space("fire/imagenet")
    blocks = space.blocks(squeezenet(space))
    fires = [(b.in_height, b.mid_channels, b.out_channels, b.spatial_channels) for b in blocks if b.op == "fire"]
    assert fires == [
        *[(56, 16, 128, 64)] * 2,
        *[(28, 32, 256, 128)] * 2,
        *[(14, 48, 384, 192)] * 2,
        *[(14, 64, 512, 256)] * 2,
    ]
    # With a bias a channel, which a folded batch norm is, the number of weights that torchvision states.
    assert sum(block.weights for block in blocks) == 1_235_496


def test_scaled_down_it_has_half_its_widths() -> None:
    small, whole = (get_space(f"fire/{preset}") for preset in ("small", "imagenet"))
    mine, theirs = small.blocks(squeezenet(small, 32)), whole.blocks(squeezenet(whole))
    widths = [
        [(b.in_channels, b.mid_channels, b.out_channels, b.spatial_channels) for b in blocks if b.op == "fire"]
        for blocks in (mine, theirs)
    ]
    assert [tuple(2 * width for width in row) for row in widths[0]] == widths[1]
    assert [b.in_height for b in mine if b.op == "fire"] == [16, 16, 8, 8, 4, 4, 4, 4]


@pytest.mark.parametrize("preset", ["small", "imagenet"])
def test_a_bypass_is_around_every_fire_but_the_first_of_a_stage(preset: str) -> None:
    space = get_space(f"fire/{preset}-bypass")
    skips = [block.skip for block in space.blocks(space.largest) if block.op == "fire"]
    assert skips == [False, True, True] * 4
    assert not any(block.skip for block in get_space(f"fire/{preset}").distinct_blocks)


@pytest.mark.parametrize("preset", ["small", "imagenet"])
def test_no_two_choices_are_the_same_network(preset: str) -> None:
    space = get_space(f"fire/{preset}")
    for slot in space.slots:
        values = [space.choices[space.position(label)].values for label in slot.choices]
        combinations = list(itertools.product(*values))
        assert len({slot.build(*chosen) for chosen in combinations}) == len(combinations)


def test_another_resolution_is_refused() -> None:
    with pytest.raises(UserError, match="has no choice resolution=227"):
        squeezenet(get_space("fire/imagenet"), 227)


@pytest.mark.parametrize(
    "wrong",
    [{"stride": 2}, {"spatial_channels": 0}, {"spatial_channels": 128}],
    ids=["strided", "all pointwise", "all spatial"],
)
def test_a_fire_has_filters_of_both_sizes_and_no_stride(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no stride, and filters of both sizes"):
        BlockSpec("fire", 64, 8, 8, 128, **(FIRE | wrong))


def test_other_blocks_have_filters_of_one_size() -> None:
    with pytest.raises(ValueError, match="only a fire"):
        BlockSpec("conv", 64, 8, 8, 128, kernel=3, spatial_channels=64)


def test_its_key_says_how_many_filters_are_spatial() -> None:
    assert BlockSpec("fire", 64, 8, 8, 128, **FIRE).key == "fire:64x8x8:m16:o128:k3:s1:relu:spatial64"
