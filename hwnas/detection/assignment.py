"""Which anchor answers for which object."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.data.detection import CROWD, NO_OBJECT
from hwnas.detection.boxes import areas, intersections, iou

FOREGROUND, BACKGROUND = 0.5, 0.4
"""Intersection over union with a box: from the first on an anchor answers for it, below the second for none."""
IN_CROWD = 0.5
"""Share of an anchor's own area, as COCO measures what is found in a crowd: from this on it answers neither for nor
against what is there.  Whatever anchor should answer for an object within a crowd by ``FOREGROUND``, has it there."""
IGNORED = -2
"""Label of an anchor that learns nothing: between the two bounds, or in a crowd."""


@torch.no_grad()
def assign(boxes: Tensor, labels: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """What each anchor should find.

    By the bounds of Lin et al. 2017 (Sec. 4, "Anchors"); as in Faster R-CNN (Ren et al. 2015, Sec. 3.1.2) the best
    anchor of a box answers for it however little they overlap; of two boxes with the same best anchor one has it, and
    the other is left out if it overlaps no other anchor by so much.

    Args:
        boxes: [n, M, 4]; for an empty one no anchor answers.
        labels: [n, M]; ``NO_OBJECT`` where there is no box, ``CROWD`` where there are objects that were not told
            apart: an anchor in there that answers for none of the others is ignored.
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
    present = ((labels >= 0) & (areas(boxes) > 0))[:, None]
    common = intersections(boxes, anchors)  # [M, A]
    overlap = iou(boxes, anchors, common) * present
    favourite = overlap.argmax(1, keepdim=True)
    overlap.scatter_(1, favourite, torch.where(present, 2.0, overlap.gather(1, favourite)))
    best, owner = overlap.max(0)
    in_crowd = (common * (labels == CROWD)[:, None]).amax(0) >= IN_CROWD * areas(anchors)
    unowned = torch.where((best < BACKGROUND) & ~in_crowd, NO_OBJECT, IGNORED)
    return labels[owner].where(best >= FOREGROUND, unowned), boxes[owner]
