"""The images on which the batch norms of a subnet are measured anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hwnas.data.augmentation import Augmentation, AugmentationConfig, Mixing
from hwnas.data.tasks import AnyDataset

CHANGED_TOGETHER = 64
"""Images."""


def recalibration_pixels(dataset: AnyDataset, changes: Mapping[str, Any] | None) -> Tensor:
    """The recalibration split, changed at random but in every call alike, uint8 [n, c, h, w].

    Weights that learned from changed images expect the statistics of such: borders and rectangles of black, say, move
    means and variances far from those of the images as they are.

    Args:
        changes: fields of :class:`AugmentationConfig`; None leaves the images as they are.
    """
    images = dataset.recalibration
    if changes is None:
        return images.pixels
    config = AugmentationConfig.model_validate(changes)
    augment, mix = Augmentation(config), Mixing(config, dataset.num_classes)
    changed = []
    pixels_of, labels_of = (torch.split(tensor, CHANGED_TOGETHER) for tensor in (images.pixels, images.labels))
    for seed, (pixels, labels) in enumerate(zip(pixels_of, labels_of, strict=True)):
        augmented = augment(pixels.float().div_(255), seed)
        if mix.mixes:
            augmented, _ = mix(augmented, labels, seed)
        changed.append(augmented.mul(255).round_().to(torch.uint8))
    return torch.cat(changed)
