"""From a detector's answers to detections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hwnas.detection.boxes import areas, decode, iou
from hwnas.detection.losses import Answers

PRE_NMS = 1000
"""Answers of a picture, the surest first, that are looked at; Lin et al. 2017 look at so many of each level (Sec. 4.1,
"Inference")."""


@dataclass(frozen=True, slots=True)
class Suppression:
    """How overlapping answers are thinned out.

    Attributes:
        score: the least probability of a class.
        iou: overlap from above which of two boxes of a class the less sure one is dropped.
        most: detections a picture.
    """

    score: float = 0.05
    iou: float = 0.5
    most: int = 100


@dataclass(frozen=True, slots=True)
class Detections:
    """Of one picture, on the CPU, the surest first: boxes [d, 4] in pixels, probabilities [d], class numbers [d]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def detections(answers: Answers, anchors: Tensor, resolution: int, rule: Suppression) -> list[Detections]:
    """What is found in each picture of ``resolution`` pixels: boxes cut at its border, thinned out class by class."""
    boxes = decode(answers.boxes.float(), anchors).clamp(0, resolution)
    return [suppressed(*picture, rule) for picture in zip(boxes, answers.classes.float().sigmoid(), strict=True)]


def suppressed(boxes: Tensor, scores: Tensor, rule: Suppression) -> Detections:
    """Thin out the answers of one picture: boxes [A, 4] and probabilities [A, classes].

    Few are left when they are compared, which the CPU does sooner than a device that is waited for at each of them.
    """
    surest = torch.where(scores >= rule.score, scores, -1.0).flatten().topk(min(PRE_NMS, scores.numel()))
    chosen = surest.indices[surest.values >= 0]
    chosen = chosen[areas(boxes[chosen // scores.shape[1]]) > 0]
    places, labels = chosen // scores.shape[1], chosen % scores.shape[1]
    found = Detections(boxes[places].cpu(), scores[places, labels].cpu(), labels.cpu())
    kept = _unrivalled(found, rule)
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])


def _unrivalled(found: Detections, rule: Suppression) -> list[int]:
    """Which detections overlap no surer one of their class that is kept."""
    rivals = (iou(found.boxes, found.boxes) > rule.iou) & (found.labels[:, None] == found.labels)
    beaten = np.zeros(len(rivals), bool)
    kept: list[int] = []
    for row, of_row in enumerate(rivals.numpy()):
        if len(kept) == rule.most:
            break
        if not beaten[row]:
            kept.append(row)
            beaten |= of_row
    return kept
