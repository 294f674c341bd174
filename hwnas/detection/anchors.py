"""The boxes that a detector starts from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from hwnas.data.dataset import CPU
from hwnas.spaces.bifpn import ANCHORS

RATIOS = (1.0, 0.5, 2.0)
"""Width to height."""
SIZES = ANCHORS // len(RATIOS)
OCTAVES = tuple(2 ** (size / SIZES) for size in range(SIZES))
"""Sizes of anchors, as factors on the smallest."""
SCALE = 4.0
"""Side of the smallest square anchor in strides of its level."""


def anchors(resolution: int, sizes: Sequence[int], device: torch.device = CPU) -> Tensor:
    """The anchors of square feature maps over a square picture.

    Three sizes a level and three ratios of equal area at each place (Lin et al. 2017, "Focal Loss for Dense Object
    Detection", Sec. 4), the smallest four strides large, as that paper and EfficientDet have it.

    Args:
        resolution: side of the picture in pixels.
        sizes: side of each level's feature map in places, the finest first.

    Returns:
        float32 [A, 4], A = 9 Σ size²: level by level, row by row, place by place, octave by octave, ratio by ratio.
        Whoever asks alike gets the same tensor, which is not to be written to.
    """
    return _anchors(resolution, tuple(sizes), device)


@cache
@torch.inference_mode(False)  # else what is first asked for there could not be learned with
def _anchors(resolution: int, sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Made once: a copy to a GPU waits for it."""
    shapes = [(octave * math.sqrt(ratio), octave / math.sqrt(ratio)) for octave, ratio in _SHAPES]
    levels = []
    for size in sizes:
        stride = resolution / size
        half = torch.tensor(shapes) * (SCALE * stride / 2)
        middle = (torch.arange(size) + 0.5) * stride
        centre = torch.cartesian_prod(middle, middle).flip(1)[:, None]
        levels.append(torch.cat([centre - half, centre + half], -1).reshape(-1, 4))
    return torch.cat(levels).to(device)


_SHAPES = tuple(itertools.product(OCTAVES, RATIOS))
