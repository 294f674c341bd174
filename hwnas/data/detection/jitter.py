"""Random changes of training pictures with their boxes, on the whole batch at once, repeatable from a seed."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from hwnas.data.decoding import FILL
from hwnas.data.detection.dataset import CROWD, NO_OBJECT

LEAST_VISIBLE = 0.25
"""Share of a box's area of which more must remain in the picture; else the object is not looked for."""


class JitterConfig(BaseModel):
    """How pictures are changed (Tan et al. 2020, "EfficientDet", Sec. 5.1: mirroring and scale jittering).

    Attributes:
        horizontal_flip: probability of mirroring.
        smallest, largest: bounds of the factor by which a picture is scaled, uniform; a smaller picture is put
            anywhere, of a larger one any part is cut.  EfficientDet's are 0.1 and 2, for pictures of 512 pixels and
            more; in small ones nothing is left to see at 0.1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizontal_flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    smallest: Annotated[float, Field(gt=0, le=1)] = 0.5
    largest: Annotated[float, Field(ge=1, le=4)] = 1.5


class Place(NamedTuple):
    """Of some pictures among those that a seed is for: where they begin, and how many there are in all."""

    first: int
    of: int


@torch.no_grad()
def jitter(
    images: Tensor, boxes: Tensor, labels: Tensor, config: JitterConfig, seed: int, place: Place | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror, scale and shift each picture at random, and its boxes with it.

    Args:
        images: floating point [B, C, side, side] between 0 and 1.
        boxes: [B, M, 4]: left, top, right, bottom in pixels.
        labels: [B, M], as of :class:`hwnas.data.detection.DetectionSet`.
        seed: equal seeds change equal batches equally.
        place: the pictures are a part of a batch, and changed as there; None: they are all of it.

    Returns:
        The same three; boxes are cut at the borders, and labels of those that are left out are ``NO_OBJECT``: objects
        of which too little is in the picture, and crowds of which nothing is.
    """
    side = images.shape[-1]
    first, of = place or Place(0, len(images))
    drawn = torch.rand(4, of, generator=torch.Generator().manual_seed(seed))[:, first : first + len(images)]
    drawn = drawn.to(images.device, non_blocking=True)
    scale = config.smallest + drawn[0] * (config.largest - config.smallest)
    mirrored = drawn[1] < config.horizontal_flip
    shift = drawn[2:] * (1 - scale) * side
    moved = _warped(images, scale, mirrored, shift)
    boxes, labels = _moved(boxes, labels, scale, mirrored, shift, side)
    return moved, boxes, labels


def _warped(images: Tensor, scale: Tensor, mirrored: Tensor, shift: Tensor) -> Tensor:
    """Pixel (x, y) goes to ``scale * (x, y) + shift``, x from the right border where ``mirrored``."""
    sign = torch.where(mirrored, -1.0, 1.0)
    # From places in the output to places in the input, both from -1 to 1.
    offset = (1 - 2 * shift / images.shape[-1]) / scale - 1
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = sign / scale, sign * offset[0]
    theta[:, 1, 1], theta[:, 1, 2] = 1 / scale, offset[1]
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    fill = FILL / 255
    return functional.grid_sample(images - fill, grid, align_corners=False) + fill


def _moved(
    boxes: Tensor, labels: Tensor, scale: Tensor, mirrored: Tensor, shift: Tensor, side: int
) -> tuple[Tensor, Tensor]:
    left, top, right, bottom = boxes.unbind(-1)
    mirror = mirrored[:, None]
    left, right = torch.where(mirror, side - right, left), torch.where(mirror, side - left, right)
    whole = torch.stack([left, top, right, bottom], -1) * scale[:, None, None]
    whole = whole + shift.T.repeat(1, 2)[:, None]
    seen = whole.clamp(0, side)
    least = torch.where(labels == CROWD, 0.0, LEAST_VISIBLE)
    kept = (labels != NO_OBJECT) & (_area(seen) > least * _area(whole))
    return seen * kept[..., None], labels.where(kept, torch.full_like(labels, NO_OBJECT))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
