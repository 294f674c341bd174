"""From a detector's answers to detections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from kornia.geometry.bbox import nms
from torch import Tensor

from hwnas.detection.boxes import areas, decode
from hwnas.detection.losses import Answers

PRE_NMS = 1000
"""Answers of a picture, the surest first, that are looked at (Lin et al. 2017, Sec. 4.1, "Inference")."""


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
    """Of one picture, the surest first: boxes [d, 4] in pixels, probabilities [d] and class numbers [d]."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@torch.no_grad()
def detections(answers: Answers, anchors: Tensor, resolution: int, rule: Suppression) -> list[Detections]:
    """What is found in each picture of ``resolution`` pixels: boxes cut at its border, thinned out class by class."""
    boxes = decode(answers.boxes.float(), anchors).clamp(0, resolution)
    return [suppressed(*picture, rule) for picture in zip(boxes, answers.classes.float().sigmoid(), strict=True)]


def suppressed(boxes: Tensor, scores: Tensor, rule: Suppression) -> Detections:
    """Thin out the answers of one picture: boxes [A, 4] and probabilities [A, classes]."""
    surest = torch.where(scores >= rule.score, scores, -1.0).flatten().topk(min(PRE_NMS, scores.numel()))
    chosen = surest.indices[surest.values >= 0]
    places, labels = chosen // scores.shape[1], chosen % scores.shape[1]
    some = areas(boxes[places]) > 0
    places, labels = places[some], labels[some]
    values = scores[places, labels]
    kept = [
        rows[nms(boxes[places[rows]], values[rows], rule.iou)]
        for rows in (torch.nonzero(labels == label)[:, 0] for label in set(labels.tolist()))
    ]
    every = torch.cat(kept) if kept else labels
    order = every[values[every].argsort(descending=True, stable=True)][: rule.most]
    return Detections(boxes[places[order]], values[order], labels[order])
