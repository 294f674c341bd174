"""Training of one network with weights of its own: the trainer, in a space of one architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.data.tasks import AnyDataset
from hwnas.progress import Progress
from hwnas.spaces import Space
from hwnas.supernet import PlainNetwork, load_supernet
from hwnas.training.config import TrainingConfig
from hwnas.training.trainer import Trainer
from hwnas.training.validation import recalibrated

FIXED: dict[str, Any] = {
    "init": None,
    "recipe": "sandwich",
    "random_subnets": 0,
    "subnet_pool": 0,
    "resolution": "subnet",
}
"""Settings that say nothing of a network alone."""


def alone(settings: Mapping[str, Any], epochs: float) -> dict[str, Any]:
    """Settings of a supernet's training for a network alone, every step being one pass of it; not yet checked."""
    return {**settings, **FIXED, "epochs": epochs, "full_epochs": max(epochs, 0.0)}


def train_alone(
    directory: Path,
    space: Space,
    dataset: AnyDataset,
    config: TrainingConfig,
    progress: Progress | None = None,
    beginning: PlainNetwork | None = None,
) -> PlainNetwork:
    """Train the one architecture of a space, or go on with it; returns it recalibrated.

    Args:
        directory: of the training, as of :class:`Trainer`.
        space: of :func:`hwnas.spaces.single_space`.
        config: of :func:`alone`.
        beginning: weights to begin with; by default random ones by the configured seed.

    Raises:
        UserError: as :class:`Trainer`.
        DivergedError: the loss is no longer finite, or has grown and does not come back.
    """
    Trainer(directory, space, dataset, config, beginning).run(progress)
    supernet, _ = load_supernet(directory, space)
    return recalibrated(supernet.extract(space.largest), space.largest.resolution, dataset, supernet.recalibration)
