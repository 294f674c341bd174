"""A training run of a detector that takes seconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from hwnas.data.detection import load_detection
from hwnas.training import Trainer, TrainingConfig

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.detectors import thin_detectors
from tests.training import toy

STEPS = 3  # the first of the largest subnet alone


def settings(**changes: object) -> TrainingConfig:
    given: dict[str, object] = {"batch_size": 8, "epochs": 10, "full_epochs": 0.5, "random_subnets": 1}
    return TrainingConfig.model_validate(given | {"learning_rate": 1e-3} | changes)


def trainer(directory: Path, pictures: Path, **changes: object) -> Trainer:
    return Trainer(directory, thin_detectors(), load_detection(pictures, side=48), settings(**changes))


def main(directory: Path, pictures: Path, cache: Path, stuck_after: int | None = None, **changes: object) -> None:
    """A run; after the step ``stuck_after`` it goes no further."""
    os.environ["HWNAS_CACHE"] = str(cache)
    torch.set_num_threads(1)
    toy.follow(trainer(directory, pictures, **changes), directory, stuck_after)


def first_steps(directory: Path, pictures: Path, cache: Path) -> None:
    """A run that goes no further than a few steps."""
    os.environ["HWNAS_CACHE"] = str(cache)
    run = trainer(directory, pictures)
    run.run_until(STEPS)
    toy.end(run)
