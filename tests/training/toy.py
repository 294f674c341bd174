"""A training run that takes seconds; as a program: ``python toy.py DIRECTORY``."""

from __future__ import annotations

import hashlib
import signal
import sys
from pathlib import Path

import torch

from hwnas.data import Dataset, ImageSet
from hwnas.files import write_atomic
from hwnas.spaces import get_space
from hwnas.training import Trainer, TrainingConfig

CLASSES = ("left", "middle", "right")


def images(n: int, seed: int) -> ImageSet:
    """Noise with a bright column whose place is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    pixels = torch.randint(0, 80, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        image[:, :, label * 9 : label * 9 + 9] += 150
    return ImageSet(pixels, labels)


def dataset(fingerprint: str = "toy") -> Dataset:
    """96 training images of three classes."""
    train = images(96, 0)
    splits = {"train": train, "recalibration": train, "validation": images(30, 1), "test": images(30, 2)}
    readers = {name: (lambda split=split: split) for name, split in splits.items()}
    return Dataset("toy", CLASSES, (0.4,) * 3, (0.3,) * 3, fingerprint, readers)


def config(**changes: object) -> TrainingConfig:
    settings: dict[str, object] = {"epochs": 3, "full_epochs": 1, "batch_size": 16, "checkpoint_steps": 4}
    settings |= {"ema_decay": 0.8, "augmentation": {"crop": "none", "horizontal_flip": 0}} | changes
    return TrainingConfig.model_validate(settings)


def trainer(directory: Path, **changes: object) -> Trainer:
    return Trainer(directory, get_space("mobilenet_v3/small", len(CLASSES)), dataset(), config(**changes))


def main(directory: Path, optimizer: str = "sgd", stuck_after: int | None = None) -> None:
    """A run, whose weights are told by their hash; after the step ``stuck_after`` it goes no further."""
    torch.set_num_threads(1)
    run = trainer(directory, optimizer=optimizer)
    if stuck_after is not None:
        run.run_until(stuck_after)
        signal.pause()
    run.run()
    digest = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in run.model.parameters())).hexdigest()
    write_atomic(directory / f"rank{run.accelerator.process_index}.sha256", digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
