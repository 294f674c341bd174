"""How well a network detects the objects of a split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hwnas.data import to_input
from hwnas.data.detection import DetectionDataset, DetectionSet
from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.evaluation import evaluate
from hwnas.detection.scores import DetectionScores
from hwnas.detection.suppression import Detections, Suppression, detections
from hwnas.supernet import PlainNetwork

EVALUATION_BATCH = 50
CPU = torch.device("cpu")


@torch.inference_mode()
def scores(
    network: PlainNetwork, resolution: int, dataset: DetectionDataset, split: DetectionSet, device: torch.device = CPU
) -> DetectionScores:
    """How well a network on a device, in evaluation mode, detects what is in a split.

    Raises:
        UserError: no object of the split is counted, or pycocotools is not installed.
    """
    found: list[Detections] = []
    for images in inputs(dataset, split, resolution, device):
        outputs = network(images)
        start = anchors(resolution, level_sizes(outputs)).to(device)
        found += detections(answers_of(outputs), start, resolution, Suppression())
    return evaluate(found, split, resolution)


def inputs(
    dataset: DetectionDataset, split: DetectionSet, resolution: int, device: torch.device = CPU
) -> Iterator[Tensor]:
    """A split's pictures as a network takes them, [n, 3, r, r], channels last, batch by batch."""
    for pixels in torch.split(split.pixels, EVALUATION_BATCH):
        x = to_input(pixels.to(device), resolution, dataset.mean, dataset.std)
        yield x.contiguous(memory_format=torch.channels_last)
