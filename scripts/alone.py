"""Shared by the benchmarks of a supernet: the same networks trained alone, on equal terms.

Alone means: the same data, augmentation and optimizer, and as many image passes as the supernet had, where a step
counts as often as it trains subnets (a sandwich of four counts four).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hwnas.data import Dataset, load_dataset
from hwnas.data.loading import NAMES
from hwnas.errors import UserError
from hwnas.pipeline.networks import open_supernet
from hwnas.pipeline.training import find_supernet
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork, SupernetRecord, load_record
from hwnas.training import TrainingConfig
from hwnas.training.alone import alone
from hwnas.training.validation import validation_score

DEFAULT_SPACE, DEFAULT_DATA = "mobilenet_v3/small", "fashion-mnist"


class Bench:
    """A supernet, its space and its data, and what networks are held to beside it.

    Args:
        directory: of the supernet; None takes the one that comes with hwnas.
        data: None takes what the supernet was trained on, where that has a name.
        root: where the files of named data lie.

    Raises:
        UserError: there is no such supernet or data, or they do not belong together.
    """

    def __init__(self, directory: Path | None, data: str | None, root: Path | None = None) -> None:
        if directory is None:
            found = load_dataset(data or DEFAULT_DATA, root=root)
            directory = find_supernet(DEFAULT_SPACE, found)
            if directory is None:
                raise UserError(f"No weights for {found.name} come with hwnas; give --supernet.")
        self.directory = directory
        self.record: SupernetRecord = load_record(directory)
        if data is None and self.record.dataset.name not in NAMES:
            raise UserError(f"The supernet in {directory} is of data of your own; say by --data where they lie.")
        self.dataset: Dataset = load_dataset(data or self.record.dataset.name, root=root)
        self.space: Space = get_space(self.record.space, self.dataset.num_classes)
        self.supernet: ElasticNetwork = open_supernet(directory, self.space, self.dataset)
        self.device = this_device()

    @property
    def passes(self) -> float:
        """Image passes of the supernet, in passes over its training images."""
        return image_passes(TrainingConfig.model_validate(self.settings))

    @property
    def settings(self) -> dict[str, Any]:
        """Of the supernet's training.

        Raises:
            UserError: it was imported, so that they are not known.
        """
        if "config" not in self.record.training:
            raise UserError(
                f"How the supernet in {self.directory} was trained is not known (it was imported), so nothing can be "
                "trained on equal terms with it; give one that 'hwnas train' has trained."
            )
        settings: dict[str, Any] = self.record.training["config"]
        return settings

    def rate(self, batch_size: int | None = None) -> float:
        """The supernet's learning rate, in proportion to the size of a batch (Goyal et al. 2017)."""
        config = self.settings
        return float(config["learning_rate"] * ((batch_size or config["batch_size"]) / config["batch_size"]))

    def alone(
        self,
        passes: float,
        seed: int,
        learning_rate: float | None = None,
        *,
        taught: bool = True,
        batch_size: int | None = None,
    ) -> TrainingConfig:
        """How a network is trained alone.

        Args:
            passes: of the training images.
            learning_rate: default: the supernet's, see :meth:`rate`.
            taught: by the supernet's largest subnet; else it learns from the labels.
            batch_size: default: the supernet's; the average of the weights is over as many images then.
        """
        config = self.settings
        size = batch_size or config["batch_size"]
        changes = {
            "teacher": str(self.directory) if taught else None,
            "warmup_epochs": min(config["warmup_epochs"], passes / 2),
            "evaluate_epochs": max(1, round(passes)),
            "seed": seed,
            "batch_size": size,
            "learning_rate": learning_rate or self.rate(batch_size),
            "ema_decay": config["ema_decay"] ** (size / config["batch_size"]),
        }
        return TrainingConfig.model_validate(alone(config, passes) | changes)

    def validation_top1(self, network: ElasticNetwork, architecture: Architecture) -> float:
        """In 0..1; by the images that choices are made by."""
        return validation_score(network, architecture, self.dataset, self.device)

    def test_top1(self, network: ElasticNetwork, architecture: Architecture) -> float:
        """In 0..1; to be read once, when nothing is left to choose."""
        return validation_score(network, architecture, judged_by_test(self.dataset), self.device)


def this_device() -> torch.device:
    """What trainings are done on here."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def image_passes(config: TrainingConfig) -> float:
    """Passes of the training images through subnets."""
    full = min(config.full_epochs, config.epochs)
    subnets = config.random_subnets + (0 if config.recipe == "progressive" else 2)
    return full + (config.epochs - full) * subnets


def judged_by_test(dataset: Dataset) -> Dataset:
    """The data set with its test images in the place of the validation images."""
    return replace(dataset, readers={**dataset.readers, "validation": dataset.readers["test"]})


def add_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    """The options that these benchmarks share."""
    parser.add_argument("--data", help="default: what the supernet was trained on")
    parser.add_argument("--data-root", type=Path, help="where the files of a named data set lie")
    parser.add_argument("--passes", type=float, help="of the images, of each training; default: the supernet's")
    parser.add_argument("--batch-size", type=int, help="of each training alone; default: the supernet's")
    parser.add_argument("--together", action="store_true", help="train side by side, as a GPU does best")
    parser.add_argument("--out", type=Path, default=Path(out), help="where trainings go on from")
    parser.add_argument("--until", type=float, metavar="MINUTES", help="end after so many, to go on later")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
