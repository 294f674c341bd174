"""What a detection data set is to the rest of hwnas: pictures in squares of one size, and the boxes in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hwnas.data.dataset import Splits, describe
from hwnas.data.detection.annotations import CocoFile

NO_OBJECT = -1
"""Label of a row of boxes that holds none."""
CROWD = -2
"""Label of a box around objects that were not told apart: within it nothing is learned but the objects that were."""


@dataclass(frozen=True)
class DetectionSet:
    """Pictures of one split, N of them with up to M boxes, all scaled and filled up to one square.

    Attributes:
        pixels: uint8 [N, 3, side, side]; the picture begins at the upper left corner.
        boxes: float32 [N, M, 4]: left, top, right, bottom in pixels of the square; 0 where there is none.
        labels: int64 [N, M], class numbers from 0, ``CROWD`` or ``NO_OBJECT``.
        scales: float32 [N], pixels of the square for a pixel of the picture.
        image_ids: int64 [N], the pictures' numbers in ``truth``.
        truth: the annotations, by which detections are judged.

    Raises:
        ValueError: a tensor has another shape or type.
    """

    pixels: Tensor
    boxes: Tensor
    labels: Tensor
    scales: Tensor
    image_ids: Tensor
    truth: CocoFile

    def __post_init__(self) -> None:
        n = len(self.pixels)
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] != 3:
            raise ValueError(f"pixels: uint8 [N, 3, side, side] expected, not {describe(self.pixels)}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 2 or len(self.labels) != n:
            raise ValueError(f"labels: int64 [{n}, M] expected, not {describe(self.labels)}")
        if self.boxes.dtype != torch.float32 or self.boxes.shape != (*self.labels.shape, 4):
            raise ValueError(f"boxes: float32 {[*self.labels.shape, 4]} expected, not {describe(self.boxes)}")
        if not len(self.scales) == len(self.image_ids) == n:
            raise ValueError(f"scales and image_ids: [{n}] expected, not {self.scales.shape}, {self.image_ids.shape}")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        return int(self.pixels.shape[-1])


class DetectionDataset(Splits[DetectionSet]):
    """A detection data set; ``class_names`` are in the order of the category numbers."""
