"""Networks that teach and do not learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.data import Dataset, to_input
from hwnas.data.dataset import Triple
from hwnas.errors import UserError
from hwnas.supernet import load_supernet, recalibrate

RECALIBRATION_BATCH = 250


@dataclass(frozen=True)
class Teacher:
    """A network with the resolution and the normalisation of its input."""

    network: nn.Module
    resolution: int
    mean: Triple
    std: Triple

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 1 or 3, h, w] between 0 and 1."""
        x = to_input(images, self.resolution, self.mean, self.std).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits.float()


def external_teacher(directory: Path, dataset: Dataset, device: torch.device) -> tuple[Teacher, str]:
    """The largest subnet of a saved supernet, recalibrated on ``dataset``; and the SHA-256 of its weights.

    Raises:
        BadFileError: the supernet cannot be read.
        UserError: it knows other classes.
    """
    supernet, record = load_supernet(directory)
    if record.dataset.class_names != dataset.class_names:
        raise UserError(
            f"The teacher {directory} knows {len(record.dataset.class_names)} classes of {record.dataset.name}, not "
            f"the {dataset.num_classes} of {dataset.name}; give one that was trained on the same classes."
        )
    largest = supernet.space.largest
    network = supernet.extract(largest).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = record.dataset.mean, record.dataset.std
    batches = torch.split(dataset.recalibration.pixels, RECALIBRATION_BATCH)
    recalibrate(network, (to_input(pixels.to(device), largest.resolution, mean, std) for pixels in batches))
    return Teacher(network, largest.resolution, mean, std), record.weights_sha256
