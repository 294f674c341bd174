"""What a data set is to the rest of hwnas: named splits of uint8 images, read when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class ImageSet:
    """Images of one split, all of one size.

    Attributes:
        pixels: uint8 [N, C, H, W], C = 1 (grey) or 3 (RGB).
        labels: int64 [N], class numbers from 0.

    Raises:
        ValueError: a tensor has another shape or type.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4 or self.pixels.shape[1] not in (1, 3):
            raise ValueError(f"pixels: uint8 [N, 1 or 3, H, W] expected, not {describe(self.pixels)}")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(f"labels: int64 [{len(self.pixels)}] expected, not {describe(self.labels)}")

    def __len__(self) -> int:
        return len(self.labels)


Split = TypeVar("Split")


@dataclass(frozen=True)
class Splits(Generic[Split]):
    """A data set whose splits are read or decoded on first use and kept thereafter.

    Attributes:
        name: what reports call it.
        class_names: one name a class, in the order of the labels.
        mean, std: per channel over the training split's pixels scaled to 0..1; three equal values for grey images.
        fingerprint: hexadecimal SHA-256 over images, labels and splits; equal for equal content, wherever it lies.
        readers: how each split is read. ``recalibration`` is a part of ``train``, the other splits share no image.
        repeated: images of the ``validation`` and the ``test`` split whose pixels occur in ``train`` as well;
            empty where they were not counted.
    """

    name: str
    class_names: tuple[str, ...]
    mean: Triple
    std: Triple
    fingerprint: str
    readers: Mapping[str, Callable[[], Split]] = field(repr=False)
    repeated: Mapping[str, int] = field(default_factory=dict)

    def inputs(self, pixels: Tensor, resolution: int, size: int, device: torch.device = CPU) -> Iterator[Tensor]:
        """Images [N, C, H, W] as a network takes them: [≤ size, 3, resolution, resolution], channels last, in order."""
        return (self.input(some.to(device), resolution) for some in torch.split(pixels, size))

    def input(self, images: Tensor, resolution: int, layout: torch.memory_format = torch.channels_last) -> Tensor:
        """Images of :func:`to_input` as a network takes them, [n, 3, resolution, resolution]."""
        return to_input(images, resolution, self.mean, self.std).contiguous(memory_format=layout)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def train(self) -> Split:
        """Images to learn from.

        Raises:
            UserError: the set is present only in part (see :func:`hwnas.data.load_dataset`).
        """
        return self.readers["train"]()

    @cached_property
    def validation(self) -> Split:
        """Images withheld from training, on which a search scores its candidates."""
        return self.readers["validation"]()

    @cached_property
    def recalibration(self) -> Split:
        """A part of ``train`` on which batch-norm statistics are measured anew for a subnet."""
        return self.readers["recalibration"]()

    @cached_property
    def test(self) -> Split:
        """Images that nothing but final figures ever touches."""
        return self.readers["test"]()


@dataclass(frozen=True)
class Dataset(Splits[ImageSet]):
    """A classification data set."""

    readers: Mapping[str, Callable[[], ImageSet]] = field(repr=False)  # said again for mypy's `replace`


def to_input(pixels: Tensor, resolution: int, mean: Triple, std: Triple) -> Tensor:
    """Turn images into a network's input.

    Args:
        pixels: [B, C, H, W] with C = 1 or 3; uint8, or floating point between 0 and 1 (augmented images).
        resolution: side of the input in pixels; images of another size are resized (bilinear, antialiased).
        mean, std: per channel, over pixels scaled to 0..1.

    Returns:
        float32 [B, 3, resolution, resolution] on the device of ``pixels``; grey is repeated in the three channels.
    """
    scaled = pixels.to(torch.float32)
    if not pixels.is_floating_point():
        scaled = scaled.div_(255.0)
    if scaled.shape[-2:] != (resolution, resolution):
        size = (resolution, resolution)
        scaled = functional.interpolate(scaled, size, mode="bilinear", antialias=True, align_corners=False)
    return (scaled - _of_channels(mean, pixels.device)) / _of_channels(std, pixels.device)


@cache
def _of_channels(values: Triple, device: torch.device) -> Tensor:
    """[3, 1, 1], made once: a copy to a GPU waits for it."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def describe(tensor: Tensor) -> str:
    """Type and shape of a tensor, for messages."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
