"""Batch norms are measured on images that are changed as in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwnas.data.augmentation import AugmentationConfig
from hwnas.data.detection import load_detection
from hwnas.data.detection.jitter import JitterConfig
from hwnas.data.recalibration import CHANGED_TOGETHER, even_batches, recalibration_pixels
from hwnas.errors import BadFileError
from tests.rectangles import make_set
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


def test_a_record_of_other_changes_is_refused_in_a_sentence() -> None:
    with pytest.raises(BadFileError, match=r"'recalibration' in the supernet's record: field 'erasing'.*restore"):
        recalibration_pixels(toy.dataset(), {"erasing": 7})


def test_mixing_is_one_of_the_changes() -> None:
    mixed = changed(NOTHING.model_copy(update={"mixup": 1.0}))
    assert not torch.equal(mixed, toy.dataset().recalibration.pixels)


def test_pictures_of_objects_are_jittered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    pictures = load_detection(make_set(tmp_path / "set", train=16, val=4), side=48)
    clean, changes = pictures.recalibration.pixels, JitterConfig().model_dump(mode="json")
    first = recalibration_pixels(pictures, changes)
    assert (first.shape, first.dtype) == (clean.shape, torch.uint8)
    assert torch.equal(first, recalibration_pixels(pictures, changes))
    assert not torch.equal(first, clean)
    still = JitterConfig(horizontal_flip=0, smallest=1, largest=1).model_dump(mode="json")
    assert (recalibration_pixels(pictures, still).int() - clean.int()).abs().max() <= 1


@given(st.integers(1, 5000), st.integers(1, 300))
def test_batches_are_as_few_as_they_were_and_nearly_equal(images: int, most: int) -> None:
    sizes = [len(some) for some in torch.split(torch.empty(images), even_batches(images, most))]
    assert max(sizes) <= most
    assert len(sizes) <= -(-images // most)
    assert max(sizes) - min(sizes) < len(sizes)


@pytest.mark.parametrize("most", [50, 100, 250])
def test_batches_that_were_equal_stay_as_they_are(most: int) -> None:
    assert even_batches(2000, most) == most
