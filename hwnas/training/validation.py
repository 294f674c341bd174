"""Accuracy of subnets on a split of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hwnas.data import Dataset, ImageSet
from hwnas.data.dataset import CPU
from hwnas.data.detection import DetectionDataset, DetectionSet
from hwnas.data.recalibration import even_batches, recalibration_pixels
from hwnas.data.tasks import AnyDataset
from hwnas.detection.scoring import PICTURES_AT_ONCE, scores
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork, PlainNetwork, recalibrate, top1

EVALUATION_BATCH = 250


def validation_score(
    supernet: ElasticNetwork, architecture: Architecture, dataset: AnyDataset, device: torch.device
) -> float:
    """How good a subnet, recalibrated, is on the validation split: top-1 or mean average precision, in 0..1."""
    network = supernet.extract(architecture)
    network = recalibrated(network, architecture.resolution, dataset, supernet.recalibration, device)
    return network_score(network, dataset, dataset.validation, device)


def recalibrated(
    network: PlainNetwork,
    resolution: int,
    dataset: AnyDataset,
    changes: Mapping[str, Any] | None,
    device: torch.device = CPU,
) -> PlainNetwork:
    """The same network on a device and with batch norms of the recalibration images, changed as it learned them."""
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = recalibration_pixels(dataset, changes)
    most = PICTURES_AT_ONCE if isinstance(dataset, DetectionDataset) else EVALUATION_BATCH
    recalibrate(network, dataset.inputs(pixels, resolution, even_batches(len(pixels), most), device))
    return network


def network_score(
    network: PlainNetwork, dataset: AnyDataset, split: ImageSet | DetectionSet, device: torch.device = CPU
) -> float:
    """How good a network on a device, in evaluation mode, is on a split: top-1 or mean average precision, in 0..1."""
    resolution = network.specs[0].in_height
    if isinstance(split, DetectionSet):
        pictures = dataset.inputs(split.pixels, resolution, PICTURES_AT_ONCE, device)
        return scores(network, resolution, pictures, split).map
    assert isinstance(dataset, Dataset)
    return top1(network, inputs(dataset, split, resolution, device))


def inputs(
    dataset: Dataset, split: ImageSet, resolution: int, device: torch.device = CPU
) -> Iterator[tuple[Tensor, Tensor]]:
    """A split as a network takes it: images [n, 3, r, r], channels last, and labels [n], batch by batch."""
    images = dataset.inputs(split.pixels, resolution, EVALUATION_BATCH, device)
    for some, labels in zip(images, torch.split(split.labels, EVALUATION_BATCH), strict=True):
        yield some, labels.to(device)
