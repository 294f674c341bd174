"""How well a network detects the objects of a split."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from hwnas.data.detection import DetectionSet
from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.evaluation import evaluate
from hwnas.detection.scores import DetectionScores
from hwnas.detection.suppression import Detections, Suppression, detections
from hwnas.supernet import PlainNetwork

PICTURES_AT_ONCE = 50
"""Wherever a detector is recalibrated or scored: what its batch norms learn depends on it."""


@torch.inference_mode()
def scores(network: PlainNetwork, resolution: int, images: Iterable[Tensor], split: DetectionSet) -> DetectionScores:
    """How well a network, in evaluation mode, detects what is in a split.

    Args:
        images: the split's at that resolution, on the network's device, as ``DetectionDataset.inputs`` gives them.

    Raises:
        UserError: no object of the split is counted, or pycocotools is not installed.
    """
    found: list[Detections] = []
    for some in images:
        outputs = network(some)
        start = anchors(resolution, level_sizes(outputs), some.device)
        found += detections(answers_of(outputs), start, resolution, Suppression())
    return evaluate(found, split, resolution)
