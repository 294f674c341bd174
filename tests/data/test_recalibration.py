"""Batch norms are measured on images that are changed as in training."""

from __future__ import annotations

import json

import torch

from hwnas.data.augmentation import AugmentationConfig
from hwnas.data.recalibration import CHANGED_TOGETHER, recalibration_pixels
from tests.training import toy

CHANGES = AugmentationConfig(crop="padded", padding=4, erasing=1.0, erasing_value=1.0)
NOTHING = AugmentationConfig(crop="none", horizontal_flip=0, erasing=0)


def changed(config: AugmentationConfig) -> torch.Tensor:
    # As it comes out of a record.
    return recalibration_pixels(toy.dataset(), json.loads(config.model_dump_json()))


def test_images_are_left_alone_where_it_is_not_known_how_weights_learned() -> None:
    assert torch.equal(recalibration_pixels(toy.dataset(), None), toy.dataset().recalibration.pixels)
    assert torch.equal(changed(NOTHING), toy.dataset().recalibration.pixels)


def test_images_are_changed_at_random_but_in_every_call_alike() -> None:
    clean, first = toy.dataset().recalibration.pixels, changed(CHANGES)
    assert (first.shape, first.dtype) == (clean.shape, torch.uint8)
    assert torch.equal(first, changed(CHANGES))
    assert all((one != other).any() for one, other in zip(first, clean, strict=True))
    assert (first == 255).float().mean() > (clean == 255).float().mean() + 0.01
    if len(clean) > CHANGED_TOGETHER:
        twice = clean[0] == clean[CHANGED_TOGETHER]
        assert not torch.equal(first[0][twice], first[CHANGED_TOGETHER][twice]), "each part has a seed of its own"


def test_mixing_is_one_of_the_changes() -> None:
    mixed = changed(NOTHING.model_copy(update={"mixup": 1.0}))
    assert not torch.equal(mixed, toy.dataset().recalibration.pixels)
