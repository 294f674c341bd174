"""What a detector's answers cost."""

from __future__ import annotations

from typing import NamedTuple

import torch
from kornia.losses import binary_focal_loss_with_logits
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from hwnas.detection.assignment import IGNORED
from hwnas.detection.boxes import encode


class LossConfig(BaseModel):
    """Weights of the loss; the defaults are EfficientDet's (Tan et al. 2020, Sec. 5.1, and its published code).

    Attributes:
        alpha, gamma: of the focal loss (Lin et al. 2017, Eq. 5).
        delta: error of a box, in units of :func:`hwnas.detection.boxes.encode`, from which on its loss is linear.
        box_weight: of the boxes' loss beside the classes'.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float = Field(default=0.25, gt=0, lt=1)
    gamma: float = Field(default=1.5, ge=0)
    delta: float = Field(default=0.1, gt=0)
    box_weight: float = Field(default=50.0, gt=0)


class Answers(NamedTuple):
    """What a detector says of each anchor: logits [n, A, classes] and ``encode``d boxes [n, A, 4]."""

    classes: Tensor
    boxes: Tensor


def detection_loss(answers: Answers, labels: Tensor, boxes: Tensor, anchors: Tensor, config: LossConfig) -> Tensor:
    """Focal loss of the classes plus weighted Huber loss of the boxes, both summed over the anchors.

    To be divided by the number of anchors that answer for a box (Lin et al. 2017, Sec. 4.1).

    Args:
        labels, boxes: of :func:`hwnas.detection.assignment.assign`.
        anchors: [A, 4].

    Returns:
        A scalar.
    """
    found = labels >= 0
    # Picking out the anchors that answer for a box would wait until a GPU tells how many do.  The others are their own
    # boxes, by which all stays finite.
    deltas, wanted = answers.boxes.where(found[..., None], 0.0), boxes.where(found[..., None], anchors)
    return class_loss(answers.classes, labels, config) + config.box_weight * box_loss(deltas, wanted, anchors, config)


def class_loss(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """The sum of the focal losses of every anchor that is not ignored and every class.

    Args:
        logits: [n, A, classes].
        labels: [n, A].
    """
    targets = labels[..., None] == torch.arange(logits.shape[-1], device=labels.device)
    losses = binary_focal_loss_with_logits(
        logits, targets.to(logits.dtype), config.alpha, config.gamma, "none", ignore_index=None
    )
    return (losses * (labels != IGNORED)[..., None]).sum()


def box_loss(deltas: Tensor, boxes: Tensor, anchors: Tensor, config: LossConfig) -> Tensor:
    """The sum over anchors of the mean Huber loss of the four numbers of a box, all [..., 4]."""
    return F.huber_loss(deltas, encode(boxes, anchors), reduction="none", delta=config.delta).mean(-1).sum()


def prior_bias(probability: float = 0.01) -> float:
    """Bias of the last layer for classes, by which each has this probability at first (Lin et al. 2017, Sec. 3.3)."""
    return float(torch.logit(torch.tensor(probability)))
