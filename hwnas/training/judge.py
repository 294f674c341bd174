"""What a training has come to, by the moving averages of its weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork
from hwnas.training.failures import LossWatch, evaluation_explained
from hwnas.training.layout import layout_for
from hwnas.training.step import Run
from hwnas.training.validation import validation_score


class Judge:
    """Judges the averaged weights that a run's state has whenever it is asked; it changes none of them."""

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        assert isinstance(run.state.model, ElasticNetwork)
        self._model, self._space = run.state.model, run.state.model.space
        self._run, self._accelerator = run, accelerator
        self._extremes: tuple[int, dict[str, float]] | None = None  # after which step, and how good

    def averaged(self) -> ElasticNetwork:
        """A copy of the supernet with the averaged weights, in evaluation mode."""
        averaged = copy.deepcopy(self._model)
        with torch.no_grad():
            for name, parameter in averaged.named_parameters():  # one that blocks share has one name here
                parameter.copy_(self._run.state.average[name])
        return averaged.eval()

    def scores(self, architectures: Sequence[Architecture]) -> list[float]:
        """How good subnets are on the validation split, each recalibrated, in 0..1.

        Raises:
            UserError: there is too little memory for it.
        """
        with evaluation_explained():
            averaged, dataset, device = self.averaged(), self._run.dataset, self._accelerator.device
            return [validation_score(averaged, architecture, dataset, device) for architecture in architectures]

    def extremes(self, step: int) -> dict[str, float]:
        """The scores of the largest and the smallest subnet, which may be one and the same, by metric.

        Found once after a step.
        """
        if self._extremes is None or self._extremes[0] != step:
            space = self._space
            extremes = {"largest": space.largest, "smallest": space.smallest}
            distinct = list(dict.fromkeys(extremes.values()))
            found = dict(zip(distinct, self.scores(distinct), strict=True))
            self._extremes = step, {f"{space.metric_key}_{name}": found[one] for name, one in extremes.items()}
        return self._extremes[1]

    @torch.no_grad()
    def require_sound(
        self, step: int, batch: Sequence[Tensor], architectures: Sequence[Architecture], watch: LossWatch
    ) -> None:
        """Refuse what the last update made of the weights, whose losses no step has told.

        Args:
            batch: one that was not trained on: images and targets.
            architectures: the subnets of a step on it.

        Raises:
            DivergedError: the weights are spoilt.
        """
        model = self.averaged().train()
        finite = all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        watch.judge_weights(step, self._losses(model, batch, architectures), finite=finite)

    def _losses(
        self, model: ElasticNetwork, batch: Sequence[Tensor], architectures: Sequence[Architecture]
    ) -> list[float]:
        """By the labels alone, over the images of all processes."""
        device, run = self._accelerator.device, self._run
        images, *targets = (tensor.to(device) for tensor in batch)
        layout, losses = layout_for(self._space, device), []
        for architecture in architectures:
            inputs = run.dataset.input(images, architecture.resolution, layout)
            with self._accelerator.autocast():
                outputs = model(inputs, architecture)
            losses.append(run.task.loss(outputs, targets, architecture.resolution, None))
        of_all: Tensor = self._accelerator.reduce(torch.stack(losses), reduction="mean")
        return of_all.tolist()
