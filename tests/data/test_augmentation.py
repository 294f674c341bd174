from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hwnas.data.augmentation import Augmentation, AugmentationConfig, Mixing
from hwnas.errors import UserError

NOTHING = AugmentationConfig(crop="none", horizontal_flip=0, erasing=0)
EVERYTHING = AugmentationConfig(crop="resized", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, erasing=0.5)


def batch(count: int = 16, channels: int = 1, side: int = 12) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1)).clamp(0.01)


configs = st.builds(
    AugmentationConfig,
    crop=st.sampled_from(["none", "padded", "resized"]),
    padding=st.integers(0, 4),
    horizontal_flip=st.floats(0, 1),
    brightness=st.floats(0, 1),
    contrast=st.floats(0, 1),
    saturation=st.floats(0, 1),
    hue=st.floats(0, 0.5),
    erasing=st.floats(0, 1),
    randaugment=st.integers(0, 3),
    mixup=st.floats(0, 0.5),
    cutmix=st.floats(0, 0.5),
)


@settings(deadline=None, max_examples=40)
@given(configs, st.integers(0, 2**63 - 1), st.integers(4, 20))
def test_any_augmentation_keeps_shape_type_and_range_and_repeats(
    config: AugmentationConfig, seed: int, side: int
) -> None:
    images = batch(5, 3, side)
    before = images.clone()
    changed = Augmentation(config)(images, seed=seed)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.min() >= -1e-6
    assert changed.max() <= 1 + 1e-6
    assert torch.equal(changed, Augmentation(config)(images, seed=seed))
    assert torch.equal(images, before)


def global_states() -> list[object]:
    numpy_state: Any = np.random.get_state()
    return [torch.get_rng_state().tolist(), numpy_state[1].tolist(), random.getstate()]


def test_the_seed_alone_decides() -> None:
    augmentation, images = Augmentation(EVERYTHING), batch(channels=3)
    results = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)
        random.seed(state)
        before = global_states()
        results.append(augmentation(images, seed=7))
        assert global_states() == before
    assert torch.equal(*results)
    assert not torch.equal(results[0], augmentation(images, seed=8))


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(Augmentation(NOTHING)(batch(), seed=0), batch())


def test_padded_crops_are_windows_of_the_padded_image_at_many_offsets() -> None:
    images = batch(64)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    config = NOTHING.model_copy(update={"crop": "padded", "padding": 2})
    offsets = set()
    for source, result in zip(padded, Augmentation(config)(images, seed=3), strict=True):
        windows = {(y, x): source[:, y : y + 12, x : x + 12] for y in range(5) for x in range(5)}
        found = [offset for offset, window in windows.items() if torch.allclose(window, result)]
        assert len(found) == 1
        offsets.update(found)
    assert len(offsets) > 15


def test_flips_are_mirror_images_of_about_the_share_asked_for() -> None:
    images = batch(400)
    changed = Augmentation(NOTHING.model_copy(update={"horizontal_flip": 0.25}))(images, seed=0)
    flipped = [torch.equal(new, old.flip(-1)) for new, old in zip(changed, images, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(changed, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 60 < sum(flipped) < 140


def test_erasing_overwrites_one_rectangle_of_the_area_asked_for() -> None:
    images = batch(64, side=32)
    config = NOTHING.model_copy(update={"erasing": 1.0, "erasing_area": (0.05, 0.2), "erasing_value": 0.0})
    for new, old in zip(Augmentation(config)(images, seed=0), images, strict=True):
        erased = (new == 0)[0]
        assert torch.equal(new[0][~erased], old[0][~erased])
        rows, columns = erased.any(1).nonzero(), erased.any(0).nonzero()
        height, width = int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
        assert int(erased.sum()) == height * width
        assert 0.03 < height * width / 1024 < 0.25


def test_resized_crops_enlarge_a_part() -> None:
    ramp = torch.linspace(0, 1, 24).expand(8, 1, 24, 24).contiguous()
    changed = Augmentation(NOTHING.model_copy(update={"crop": "resized", "resized_area": (0.2, 0.4)}))(ramp, seed=1)
    spread = changed.amax((1, 2, 3)) - changed.amin((1, 2, 3))
    assert (spread < 0.8).all()
    assert (changed.diff(dim=-1) > -1e-4).all()


def test_grey_images_have_no_hue() -> None:
    with pytest.raises(UserError, match="Grey images"):
        Augmentation(EVERYTHING)(batch(), seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": "oval"},
        {"padding": -1},
        {"erasing": 1.5},
        {"hue": 0.7},
        {"flip": 0.5},
        {"resized_area": (0.9, 0.1)},
        {"resized_ratio": (0.5, float("inf"))},
        {"randaugment_magnitude": 30},
        {"mixup": 0.6, "cutmix": 0.6},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentationConfig.model_validate(wrong)


@given(configs, st.floats(0, 10))
@example(AugmentationConfig(mixup=0.5, cutmix=0.0005), 2.0)
@example(AugmentationConfig(resized_ratio=(0.1, 10)), 10.0)
def test_a_strength_scales_within_bounds(config: AugmentationConfig, strength: float) -> None:
    changed = config.model_copy(update={"strength": strength}).scaled()
    AugmentationConfig.model_validate(changed.model_dump())
    assert config.scaled() == config
    assert changed.horizontal_flip == config.horizontal_flip
    assert (changed.erasing >= config.erasing) if strength >= 1 else (changed.erasing <= config.erasing)
    assert (changed.padding >= config.padding) if strength >= 1 else (changed.padding <= config.padding)


def test_without_strength_images_stay_as_they_are() -> None:
    images = batch()
    config = EVERYTHING.model_copy(update={"strength": 0.0, "horizontal_flip": 0.0, "saturation": 0.0, "hue": 0.0})
    assert torch.allclose(Augmentation(config)(images, seed=1), images, atol=1e-6)
    assert not torch.allclose(Augmentation(config.model_copy(update={"strength": 1.0}))(images, seed=1), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugment_draws_other_operations_for_other_seeds_and_keeps_grey_grey(channels: int) -> None:
    images = batch(8, channels)
    augmentation = Augmentation(NOTHING.model_copy(update={"randaugment": 2}))
    changed = [augmentation(images, seed) for seed in range(6)]
    assert all(images.shape == other.shape and 0 <= other.min() <= other.max() <= 1 for other in changed)
    assert len({round(float(other.sum()), 3) for other in changed}) == 6


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_in_the_shares_of_their_images(kind: str) -> None:
    labels = torch.arange(8)
    images = labels.div(8).view(8, 1, 1, 1).expand(8, 3, 16, 16).contiguous()
    mixed, target = Mixing(NOTHING.model_copy(update={kind: 1.0}), 8)(images, labels, seed=3)
    assert torch.allclose(target.sum(1), torch.ones(8))
    # The image of class c is c/8 all over, so that its mean is that of its classes.
    assert torch.allclose(mixed.mean((1, 2, 3)), (target * labels.div(8)).sum(1), atol=1e-5)
    assert (target.max(1).values < 1).sum() >= 4
    again, same = Mixing(NOTHING.model_copy(update={kind: 1.0}), 8)(images, labels, seed=3)
    assert torch.equal(again, mixed)
    assert torch.equal(same, target)


def test_mixing_happens_as_often_as_asked_for() -> None:
    labels = torch.arange(4)
    mixing = Mixing(NOTHING.model_copy(update={"mixup": 0.25, "cutmix": 0.25}), 4)
    plain = [torch.equal(mixing(batch(4), labels, seed)[0], batch(4)) for seed in range(200)]
    assert 70 < sum(plain) < 130
