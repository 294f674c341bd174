"""From the feature maps that a detector gives to answers in the order of its anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwnas.detection.losses import Answers
from hwnas.spaces.bifpn import ANCHORS


def answers_of(outputs: Sequence[Tensor]) -> Answers:
    """A detector's answers to each anchor of :func:`hwnas.detection.anchors.anchors`, in float32.

    Args:
        outputs: logits [n, 9 classes, size, size] of each level, the finest first, then boxes [n, 36, size, size].
    """
    half = len(outputs) // 2
    return Answers(_by_anchor(outputs[:half]), _by_anchor(outputs[half:]))


def level_sizes(outputs: Sequence[Tensor]) -> list[int]:
    """Places along a side of each level's feature map, the finest first."""
    return [int(output.shape[-1]) for output in outputs[: len(outputs) // 2]]


def _by_anchor(maps: Sequence[Tensor]) -> Tensor:
    """[n, 9 k, size, size] of each level to [n, anchors, k]."""
    flat = [x.float().permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1] // ANCHORS) for x in maps]
    return torch.cat(flat, 1)
