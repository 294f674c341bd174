"""Networks that teach and do not learn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from hwnas.data import Dataset, to_input
from hwnas.data.dataset import Triple
from hwnas.data.recalibration import even_batches, recalibration_pixels
from hwnas.data.tasks import require_task
from hwnas.errors import UserError
from hwnas.files import sha256_of
from hwnas.supernet import load_supernet, recalibrate
from hwnas.supernet.importing import LITE2, LITE2_RESOLUTION, LITE_MEAN, LITE_STD, lite2, weights_file
from hwnas.training.validation import EVALUATION_BATCH

_WORDNET = re.compile(r"n\d{8}")
_IMAGENET = (1000, "n01440764", "n15075141")
"""Number of classes, the first and the last, by their WordNet numbers, which ascend."""


class Ask(Protocol):
    """Who gives the answers that others learn from: logits [n, classes] of images [n, 1 or 3, h, w] between 0 and 1."""

    @property
    def replayable(self) -> bool:
        """Whether all it does is done on the device, so that a recording of it answers as it does."""

    @property
    def held_out_top1(self) -> float | None:
        """In 0..1, of a network whose classifier was fitted (:mod:`hwnas.training.probe`)."""

    def __call__(self, images: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Teacher:
    """A network with the resolution and the normalisation of its input; see :class:`Ask`."""

    network: nn.Module
    resolution: int
    mean: Triple
    std: Triple
    held_out_top1: float | None = None
    replayable: ClassVar[bool] = True

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 1 or 3, h, w], uint8 or between 0 and 1."""
        x = to_input(images, self.resolution, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits.float()


def supernet_teacher(directory: Path, dataset: Dataset, device: torch.device) -> tuple[Teacher, str]:
    """The largest subnet of a saved supernet, recalibrated on ``dataset``; and the SHA-256 of its weights.

    Raises:
        BadFileError: the supernet cannot be read.
        UserError: it knows other classes, or is no classifier.
    """
    supernet, record = load_supernet(directory)
    require_task(supernet.space, dataset)
    if record.dataset.class_names != dataset.class_names:
        raise UserError(
            f"The teacher {directory} knows {len(record.dataset.class_names)} classes of {record.dataset.name}, not "
            f"the {dataset.num_classes} of {dataset.name}; give one that was trained on the same classes."
        )
    largest = supernet.space.largest
    network = supernet.extract(largest).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = record.dataset.mean, record.dataset.std
    images = recalibration_pixels(dataset, supernet.recalibration)
    batches = torch.split(images, even_batches(len(images), EVALUATION_BATCH))
    recalibrate(network, (to_input(pixels.to(device), largest.resolution, mean, std) for pixels in batches))
    return Teacher(network, largest.resolution, mean, std), record.weights_sha256


def lite2_teacher(device: torch.device) -> tuple[Teacher, str]:
    """EfficientNet-Lite2 with its ImageNet classes, and the SHA-256 of its weights.

    Raises:
        BadFileError: its weights are others.
        UserError: they are not installed.
    """
    network = lite2().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(network, LITE2_RESOLUTION, LITE_MEAN, LITE_STD), sha256_of(weights_file(LITE2))


def has_imagenet_classes(dataset: Dataset) -> bool:
    """Whether the classes are ImageNet's thousand in their order, as their names, which begin with numbers, tell."""
    numbers = [name[:9] for name in dataset.class_names]
    named = all(map(_WORDNET.fullmatch, numbers)) and numbers == sorted(numbers)
    return named and (len(numbers), numbers[0], numbers[-1]) == _IMAGENET
