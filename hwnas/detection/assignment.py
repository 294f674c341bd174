"""Which anchor answers for which object."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.data.detection import NO_OBJECT
from hwnas.detection.boxes import areas, iou

FOREGROUND, BACKGROUND = 0.5, 0.4
"""Intersection over union with a box: from the first on an anchor answers for it, below the second for none."""
IGNORED = -2
"""Label of an anchor between the two, which learns nothing."""


@torch.no_grad()
def assign(boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """What each anchor should find.

    By the bounds of Lin et al. 2017 (Sec. 4, "Anchors"); as in Faster R-CNN (Ren et al. 2015, Sec. 3.1.2) the best
    anchor of a box answers for it however little they overlap; of two boxes with the same best anchor one has it, and
    the other is left out if it overlaps no other anchor by so much.

    Args:
        boxes: [n, M, 4]; for an empty one no anchor answers.
        labels: [n, M]; ``NO_OBJECT`` where there is no box.
        anchors: [A, 4].

    Returns:
        Labels [n, A]: a class number, ``NO_OBJECT`` or ``IGNORED``; and the boxes [n, A, 4] that the anchors with a
        class number answer for.
    """
    pairs = [_assigned(*picture, anchors) for picture in zip(boxes, labels, strict=True)]
    found, owned = zip(*pairs, strict=True)
    return torch.stack(found), torch.stack(owned)


def _assigned(boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`assign` for one picture."""
    present = ((labels != NO_OBJECT) & (areas(boxes) > 0))[:, None]
    overlap = iou(boxes, anchors) * present  # [M, A]
    favourite = overlap.argmax(1, keepdim=True)
    overlap.scatter_(1, favourite, torch.where(present, 2.0, overlap.gather(1, favourite)))
    best, owner = overlap.max(0)
    unowned = torch.where(best < BACKGROUND, NO_OBJECT, IGNORED)
    return labels[owner].where(best >= FOREGROUND, unowned), boxes[owner]
