"""Boxes stay on what they were drawn around."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from hwnas.data.detection import CROWD, NO_OBJECT
from hwnas.data.detection.jitter import LEAST_VISIBLE, JitterConfig, Place, jitter

SIDE = 48


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """Eight black pictures with one white rectangle each, and a row of no object."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(4, 24, (8, 2), generator=generator)
    extent = torch.randint(10, 20, (8, 2), generator=generator)
    images = torch.zeros(8, 3, SIDE, SIDE)
    boxes = torch.zeros(8, 2, 4)
    for image, box, (x, y), (w, h) in zip(images, boxes, corner.tolist(), extent.tolist(), strict=True):
        image[:, y : y + h, x : x + w] = 1
        box[1] = torch.tensor([x, y, x + w, y + h])
    return images, boxes, torch.tensor([[NO_OBJECT, 5]] * 8)


@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0, 0.5]))
def test_a_box_still_surrounds_its_object(seed: int, flip: float) -> None:
    images, boxes, labels = jitter(*scene(), JitterConfig(horizontal_flip=flip), seed)
    assert (labels[:, 0] == NO_OBJECT).all()
    for image, box, label in zip(images, boxes[:, 1], labels[:, 1], strict=True):
        rows, columns = (image[0] > 0.75).nonzero().unbind(1)
        if label == NO_OBJECT:
            assert box.tolist() == [0.0] * 4
            continue
        assert label == 5
        bright = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (bright - box).abs().max() <= 1.5


def test_without_changes_nothing_changes() -> None:
    images, boxes, labels = scene()
    still = JitterConfig(horizontal_flip=0, smallest=1, largest=1)
    same = jitter(images, boxes, labels, still, 0)
    assert (same[0] - images).abs().max() < 1e-5
    assert torch.equal(same[1], boxes)
    assert torch.equal(same[2], labels)
    mirrored = jitter(images, boxes, labels, still.model_copy(update={"horizontal_flip": 1}), 0)
    assert (mirrored[0] - images.flip(3)).abs().max() < 1e-5


def test_equal_seeds_change_equally_and_leave_the_generators_alone() -> None:
    state = torch.get_rng_state()
    first, second, other = (jitter(*scene(), JitterConfig(), seed) for seed in (1, 1, 2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_objects_of_which_too_little_is_left_are_not_looked_for() -> None:
    images, boxes, labels = scene()
    boxes[:, 1] = torch.tensor([0.0, 0, 12, 12])
    enlarged = JitterConfig(horizontal_flip=0, smallest=1, largest=4)
    kept_some = dropped_some = False
    for seed in range(6):
        _, moved, found = jitter(images, boxes, labels, enlarged, seed)
        kept = found[:, 1] == 5
        kept_some |= bool(kept.any())
        dropped_some |= bool((~kept).any())
        assert ((moved >= 0) & (moved <= SIDE)).all()
    assert kept_some
    assert dropped_some
    assert 0 < LEAST_VISIBLE < 1


def test_what_is_left_of_a_crowd_is_one_however_little() -> None:
    images, boxes, labels = scene()
    boxes[:] = torch.tensor([0.0, 0, 12, 12])
    labels[:, 0], labels[:, 1] = CROWD, 5
    enlarged = JitterConfig(horizontal_flip=0.5, smallest=1, largest=4)
    some = False
    for seed in range(6):
        _, moved, found = jitter(images, boxes, labels, enlarged, seed)
        extent = (moved[..., 2:] - moved[..., :2]).amin(-1)
        assert ((found == CROWD) == (extent > 0))[:, 0].all()
        both = found[:, 1] == 5
        assert torch.equal(moved[both, 0], moved[both, 1])
        some |= bool((~both & (found[:, 0] == CROWD)).any())
    assert some


@given(st.integers(0, 2**31), st.integers(0, 7), st.integers(1, 8))
def test_a_part_of_a_batch_is_changed_as_in_it(seed: int, first: int, count: int) -> None:
    whole = jitter(*scene(), JitterConfig(), seed)
    part = slice(first, first + count)
    alone = jitter(*(tensor[part] for tensor in scene()), JitterConfig(), seed, Place(first, len(scene()[0])))
    assert all(torch.equal(one, all_of[part]) for one, all_of in zip(alone, whole, strict=True))


def test_a_box_without_extent_is_no_object() -> None:
    images, boxes, labels = scene()
    boxes[:, 1] = torch.tensor([0.0, 3, 0, 8])
    assert (jitter(images, boxes, labels, JitterConfig(), 0)[2] == NO_OBJECT).all()


@pytest.mark.parametrize("settings", [{"smallest": 0}, {"smallest": 1.2}, {"largest": 0.9}, {"horizontal_flip": 2}])
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        JitterConfig(**settings)
