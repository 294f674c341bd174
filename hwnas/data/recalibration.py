"""The images on which the batch norms of a subnet are measured anew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from hwnas.data.augmentation import Augmentation, AugmentationConfig, Mixing
from hwnas.data.dataset import Dataset
from hwnas.data.detection import DetectionDataset
from hwnas.data.detection.jitter import JitterConfig, jitter
from hwnas.data.tasks import AnyDataset
from hwnas.errors import BadFileError
from hwnas.files import describe

CHANGED_TOGETHER = 64
"""Images."""


def recalibration_pixels(dataset: AnyDataset, changes: Mapping[str, Any] | None) -> Tensor:
    """The recalibration split, changed at random but in every call alike, uint8 [n, c, h, w].

    Weights that learned from changed images expect the statistics of such: borders and rectangles of black, say, move
    means and variances far from those of the images as they are.

    Args:
        changes: fields of :class:`AugmentationConfig`, or of :class:`JitterConfig` for a detection data set; None
            leaves the images as they are.

    Raises:
        BadFileError: they are others; they come from the record of a supernet.
    """
    if changes is None:
        return dataset.recalibration.pixels
    changed = _jittered(dataset, changes) if isinstance(dataset, DetectionDataset) else _augmented(dataset, changes)
    try:
        return torch.cat([images.mul(255).round_().to(torch.uint8) for images in changed])
    except ValidationError as error:
        raise BadFileError(
            f"'recalibration' in the supernet's record: {describe(error)}; restore record.json as it was trained."
        ) from error


def even_batches(images: int, most: int) -> int:
    """How many images to take at once, ``most`` at the most, so that no more batches than need be are nearly equal.

    The statistics of a last batch of a few images would be hardly those of the others.
    """
    return most if images <= most else math.ceil(images / math.ceil(images / most))


def _augmented(dataset: Dataset, changes: Mapping[str, Any]) -> Iterator[Tensor]:
    config = AugmentationConfig.model_validate(changes)
    augment, mix = Augmentation(config), Mixing(config, dataset.num_classes)
    images = dataset.recalibration
    for seed, (pixels, labels) in enumerate(_batches(images.pixels, images.labels)):
        augmented = augment(pixels.float().div_(255), seed)
        yield mix(augmented, labels, seed)[0] if mix.mixes else augmented


def _jittered(dataset: DetectionDataset, changes: Mapping[str, Any]) -> Iterator[Tensor]:
    config, images = JitterConfig.model_validate(changes), dataset.recalibration
    for seed, (pixels, boxes, labels) in enumerate(_batches(images.pixels, images.boxes, images.labels)):
        yield jitter(pixels.float().div_(255), boxes, labels, config, seed)[0]


def _batches(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(tensor, CHANGED_TOGETHER) for tensor in tensors), strict=True)
