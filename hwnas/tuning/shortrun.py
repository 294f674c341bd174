"""Short trainings, and how good they are: what a trial of a tuning does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hwnas.data import Dataset, ImageSet, load_dataset
from hwnas.data.loading import NAMES
from hwnas.progress import Progress
from hwnas.search.service.recipe import Recipe
from hwnas.spaces import Architecture, Space, get_space
from hwnas.training import Trainer, TrainingConfig
from hwnas.tuning.ranges import with_values
from hwnas.tuning.trials import Trainee

SHORT_RUNS = "hwnas.tuning.shortrun:short_runs"
RECALIBRATION_IMAGES = 1000
NEVER = 1_000_000


def short_config(config: TrainingConfig, epochs: float) -> TrainingConfig:
    """The same training in fewer epochs; phases that are a share of it remain the same share.

    The learning rate falls to zero over ``epochs``, the length of the last rung: the rungs below are stopped early.
    So going on from rung to rung is one unbroken training whose every step is done once, and the last rung is a whole
    training whose rate has fallen, which is what its successor at full length will be.  A fall to zero on each rung
    would compare finished trainings too, but the next rung could not go on from one.  What an early stop costs those
    with a high rate is small, since the moving average of the weights is measured, and averaging does what a falling
    rate does (Sandler et al. 2023, "Training trajectories, mini-batch losses and the curious role of the learning
    rate").
    """
    share = epochs / config.epochs
    shorter = {
        "epochs": epochs,
        "full_epochs": config.full_epochs * share,
        "warmup_epochs": config.warmup_epochs * share,
        "evaluate_epochs": NEVER,  # a trial measures on its own
    }
    return config.model_copy(update=shorter)


class ShortRuns:
    """Trains configurations of a supernet's training and measures subnets of it.

    Measured are the smallest subnet, the largest and some random ones, the same for every configuration, with the
    averaged weights, each recalibrated; all on the same images of the validation split.  Test images are not read.

    Args:
        config: of the longest run.
        subnets: random ones.
        images: of the validation split; at most.
        seed: of the random subnets and of the images.
        threads: of torch.
    """

    def __init__(
        self,
        space: Space,
        dataset: Dataset,
        config: TrainingConfig,
        *,
        subnets: int,
        images: int,
        seed: int,
        threads: int,
    ) -> None:
        self._space, self._config, self._threads = space, config, threads
        self._dataset = fewer_images(dataset, images, seed)
        self._measured = measured_subnets(space, subnets, seed)
        protocol = [dataset.fingerprint, space.name, config.model_dump_json(), images, threads]
        named = "|".join(map(str, [*protocol, *(subnet.id for subnet in self._measured)]))
        self.identity = hashlib.sha256(named.encode()).hexdigest()[:16]

    def train(self, directory: Path, values: Mapping[str, float], until: int, progress: Progress) -> list[float]:
        """See :meth:`Trainee.train`."""
        torch.set_num_threads(self._threads)
        settings = with_values(self._config.model_dump(), values)
        trainer = Trainer(directory, self._space, self._dataset, TrainingConfig.model_validate(settings))
        trainer.run_until(until, progress)
        return trainer.judge.scores(self._measured)


def measured_subnets(space: Space, count: int, seed: int) -> list[Architecture]:
    """The smallest, the largest and ``count`` random subnets."""
    return [space.smallest, space.largest, *space.decode(space.sample(np.random.default_rng(seed), count))]


def fewer_images(dataset: Dataset, images: int, seed: int) -> Dataset:
    """The data set with fewer images to recalibrate and to validate with, chosen by ``seed``."""

    def some(name: str, most: int) -> ImageSet:
        split = dataset.readers[name]()
        if len(split) <= most:
            return split
        rows = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(len(split))[:most]))
        return ImageSet(split.pixels[rows], split.labels[rows])

    fewer = {
        "validation": partial(some, "validation", images),
        "recalibration": partial(some, "recalibration", RECALIBRATION_IMAGES),
    }
    return replace(dataset, readers={**dataset.readers, **fewer})


def short_runs_recipe(
    trainee: ShortRuns, space: Space, data: str, data_root: Path | None, config: TrainingConfig, **protocol: int
) -> Recipe:
    """How a trial makes ``trainee`` for itself.

    Args:
        data, data_root: as :func:`hwnas.data.load_dataset` takes them.
        protocol: the further arguments of :class:`ShortRuns`.
    """
    settings: dict[str, Any] = {
        "space": space.name,
        "data": data if data in NAMES else str(Path(data).absolute()),
        "data_root": None if data_root is None else str(data_root.absolute()),
        "config": config.model_dump(mode="json"),
        **protocol,
    }
    return Recipe(maker=SHORT_RUNS, settings=settings, identity=trainee.identity)


def short_runs(*, space: str, data: str, data_root: str | None, config: dict[str, Any], **protocol: int) -> Trainee:
    """Make what :func:`short_runs_recipe` describes."""
    dataset = load_dataset(data, root=None if data_root is None else Path(data_root))
    searched = get_space(space, dataset.num_classes)
    return ShortRuns(searched, dataset, TrainingConfig.model_validate(config), **protocol)
