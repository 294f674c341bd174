"""Boxes, [..., 4]: left, top, right, bottom in pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""A box is at most so many times as large as its anchor, so that no exponential overflows (Faster R-CNN's bound)."""


def areas(boxes: Tensor) -> Tensor:
    """Square pixels, [...]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersections(first: Tensor, second: Tensor) -> Tensor:
    """Area that is in both of each pair: [..., n, 4] and [..., m, 4] to [..., n, m]."""
    one, other = first[..., :, None, :], second[..., None, :, :]
    sides = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(min=0)
    return sides.prod(-1)


def iou(first: Tensor, second: Tensor, common: Tensor | None = None) -> Tensor:
    """Intersection over union of each pair: [..., n, 4] and [..., m, 4] to [..., n, m]; 0 for two empty boxes.

    ``common`` are their intersections, where they are known.
    """
    common = intersections(first, second) if common is None else common
    union = areas(first)[..., :, None] + areas(second)[..., None, :] - common
    return common / union.clamp(min=torch.finfo(union.dtype).tiny)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes of some extent as seen from their anchors, [..., 4]: shift of the centre in anchor sides, log of the scale.

    Ren et al. 2015, "Faster R-CNN", Eq. 2; in the order x, y, width, height.
    """
    centre, size = _centred(boxes)
    anchor_centre, anchor_size = _centred(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, (size / anchor_size).log()], -1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of :func:`encode`."""
    anchor_centre, anchor_size = _centred(anchors)
    centre = anchor_centre + deltas[..., :2] * anchor_size
    half = deltas[..., 2:].clamp(max=LARGEST_LOG_SCALE).exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], -1)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (x, y) and size (width, height)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
