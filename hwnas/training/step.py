"""One optimizer step: passes of subnets on a batch, and the update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from accelerate import Accelerator
from torch import Tensor

from hwnas.data.tasks import AnyDataset
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork
from hwnas.training.config import TrainingConfig
from hwnas.training.layout import layout_for
from hwnas.training.optimization import average_share, set_learning_rate
from hwnas.training.processes import average_gradients
from hwnas.training.state import State
from hwnas.training.tasks import Task
from hwnas.training.teachers import Ask

Work = Callable[[], None]


@dataclass(frozen=True)
class Run:
    """What the steps of a training work on."""

    state: State
    task: Task
    dataset: AnyDataset
    config: TrainingConfig


class Step(ABC):
    """What every step does; how it is done is up to the classes below and in :mod:`hwnas.training.graphs`.

    Args:
        autocast, backpropagate: as the accelerator does them.
    """

    def __init__(
        self,
        run: Run,
        autocast: Callable[[], AbstractContextManager[None]],
        backpropagate: Callable[[Tensor], None],
    ) -> None:
        assert isinstance(run.state.model, ElasticNetwork)
        self._model: ElasticNetwork = run.state.model
        self._parameters: list[Tensor] = list(self._model.parameters())
        self._averages = list(run.state.average.values())
        self._layout = layout_for(self._model.space, self._parameters[0].device)
        self._optimizer, self._task = run.state.optimizer, run.task
        self._dataset, self._config = run.dataset, run.config
        self._autocast, self._backpropagate = autocast, backpropagate
        self._images = self._soft = self._loss = self._parameters[0].new_zeros(())
        self._targets: Sequence[Tensor] = ()

    def passes(
        self,
        architectures: Sequence[Architecture],
        images: Tensor,
        targets: Sequence[Tensor],
        teacher: Ask | None,
        regularised: AbstractContextManager[None] | None,
    ) -> Tensor:
        """Add the gradients of all ``architectures`` on one batch; returns each one's loss, on the device.

        Args:
            images: [n, 1 or 3, h, w] between 0 and 1.
            targets: as the task has them.
            teacher: gives the answers that all learn from.  Without one the first learns from the labels and, where the
                task distils, teaches the others (in-place distillation).
            regularised: entered for the first subnet, where that is the largest.
        """
        self._take(images, targets)
        if teacher is not None:
            self._do("teacher", partial(self._answer, teacher), again=teacher.replayable)
        losses = []
        for index, architecture in enumerate(architectures):
            taught = self._task.distils and (teacher is not None or index > 0)
            work = partial(self._pass, architecture, taught)
            special = regularised if index == 0 else None
            with special or nullcontext():
                self._do((architecture, taught), work, again=special is None and self._comes_again(architecture))
            losses.append(self._loss.clone())
        return self._of_all_images(torch.stack(losses))

    @abstractmethod
    def update(self, rate: float, since_begin: int) -> None:
        """Move the weights at a learning rate, and their average after them.

        ``since_begin`` counts the steps since the average was a copy of the weights.
        """

    @abstractmethod
    def _do(self, name: Hashable, work: Work, *, again: bool) -> None:
        """Do a work, which is of those that come again or not."""

    @abstractmethod
    def _take(self, images: Tensor, targets: Sequence[Tensor]) -> None:
        """Have the works read this batch."""

    @abstractmethod
    def _of_all_images(self, losses: Tensor) -> Tensor:
        """Losses, and gradients, of the whole batch from those of this process's images."""

    @abstractmethod
    def _keep_loss(self, loss: Tensor) -> None:
        """Have ``_loss`` be this."""

    @abstractmethod
    def _keep_soft(self, answers: Tensor) -> None:
        """Have ``_soft`` be these, what subnets that are taught learn from."""

    def _comes_again(self, architecture: Architecture) -> bool:
        space = self._model.space
        return bool(self._config.subnet_pool) or architecture in (space.largest, space.smallest)

    def _answer(self, teacher: Ask) -> None:
        with self._autocast():
            self._keep_soft(teacher(self._images))

    def _pass(self, architecture: Architecture, taught: bool) -> None:
        """Add the gradients of one subnet; one that is not taught is the first of a task that distils, and teaches."""
        resolution = architecture.resolution
        inputs = self._dataset.input(self._images, resolution, self._layout)
        with self._autocast():
            outputs = self._model(inputs, architecture)
        cost = self._task.loss(outputs, self._targets, resolution, self._soft if taught else None)
        self._backpropagate(cost)
        self._keep_loss(cost.detach())
        if self._task.distils and not taught:
            self._keep_soft(outputs.detach())


class EagerStep(Step):
    """Each operation when it is due, in one process or several.

    Args:
        optimizer: the state's, as the accelerator prepared it.
    """

    def __init__(self, run: Run, accelerator: Accelerator, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(run, accelerator.autocast, accelerator.backward)
        self._accelerator, self._prepared = accelerator, optimizer

    def update(self, rate: float, since_begin: int) -> None:
        """As :meth:`Step.update`."""
        self._accelerator.unscale_gradients()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip, foreach=True)
        set_learning_rate(self._optimizer, rate)
        self._prepared.step()
        self._prepared.zero_grad(set_to_none=True)
        weights = [parameter.detach() for parameter in self._parameters]
        torch._foreach_lerp_(self._averages, weights, average_share(self._config.ema_decay, since_begin))

    def _do(self, name: Hashable, work: Work, *, again: bool) -> None:  # noqa: ARG002
        work()

    def _take(self, images: Tensor, targets: Sequence[Tensor]) -> None:
        self._images, self._targets = images, targets

    def _of_all_images(self, losses: Tensor) -> Tensor:
        if self._accelerator.num_processes == 1:
            return losses
        average_gradients(self._model, self._accelerator)
        mean: Tensor = self._accelerator.reduce(losses, reduction="mean")
        return mean

    def _keep_loss(self, loss: Tensor) -> None:
        self._loss = loss

    def _keep_soft(self, answers: Tensor) -> None:
        self._soft = answers.float()
