"""One class an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.data import Dataset
from hwnas.data.augmentation import Augmentation, Mixing
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.training.batches import Make, resident
from hwnas.training.config import TrainingConfig
from hwnas.training.losses import Outputs, classification_loss
from hwnas.training.tasks.base import Task, refuse_changed
from hwnas.training.validation import inputs


class Classification(Task):
    """Learns from labels and from soft labels; top-1 says how well.

    Raises:
        UserError: the configuration has settings of detectors, or changes colours of grey images.
    """

    distils = True

    def __init__(self, dataset: Dataset, config: TrainingConfig) -> None:
        refuse_changed(config, ["detection"], "classifiers")
        Augmentation(config.augmentation).require_colours(dataset.train.pixels.shape[1])
        self._dataset, self._config = dataset, config
        self.knows_nothing = math.log(dataset.num_classes)
        self.recalibration = config.augmentation.model_dump(mode="json")

    def begin(self, supernet: ElasticNetwork) -> None:
        """Nothing is to be done."""

    def maker(self, device: torch.device) -> Make:
        """Targets are class numbers [n] or probabilities [n, classes]."""
        train, config = self._dataset.train, self._config.augmentation
        pixels, labels = resident(train.pixels, device), train.labels.to(device)
        augment, mix = Augmentation(config), Mixing(config, self._dataset.num_classes)

        def make(rows: Tensor, seed: int, wanted: slice) -> tuple[Tensor, ...]:
            chosen = pixels[rows.to(pixels.device, non_blocking=True)].to(device, non_blocking=True)
            images, given = augment(chosen.float().div_(255), seed=seed), labels[rows.to(device, non_blocking=True)]
            made = mix(images, given, seed) if mix.mixes else (images, given)
            return tuple(tensor[wanted] for tensor in made)

        return make

    def loss(self, outputs: Outputs, targets: Sequence[Tensor], _: int, teacher: Outputs | None, /) -> Tensor:
        """Cross entropy, or its mixture with the distance from the teacher."""
        assert isinstance(outputs, Tensor)
        assert not isinstance(teacher, tuple)
        return classification_loss(outputs.float(), targets[0], teacher, self._config)

    def losses(self, network: PlainNetwork, resolution: int) -> Iterator[Tensor]:
        """Cross entropy."""
        for images, labels in inputs(self._dataset, self._dataset.recalibration, resolution):
            yield F.cross_entropy(network(images), labels)
