"""Accuracy of subnets on the validation split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hwnas.data import Dataset, ImageSet, to_input
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork, recalibrate, top1

EVALUATION_BATCH = 250


def validation_top1(
    supernet: ElasticNetwork, architecture: Architecture, dataset: Dataset, device: torch.device
) -> float:
    """Share of the validation images that a subnet, recalibrated, gets right, in 0..1."""
    network = supernet.extract(architecture)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    resolution = architecture.resolution
    recalibrate(network, (images for images, _ in _inputs(dataset, dataset.recalibration, resolution, device)))
    return top1(network, _inputs(dataset, dataset.validation, resolution, device))


def _inputs(
    dataset: Dataset, split: ImageSet, resolution: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(split), EVALUATION_BATCH):
        rows = slice(start, start + EVALUATION_BATCH)
        x = to_input(split.pixels[rows].to(device), resolution, dataset.mean, dataset.std)
        yield x.contiguous(memory_format=torch.channels_last), split.labels[rows].to(device)
