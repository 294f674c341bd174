"""One optimizer step: passes of subnets on a batch, and the update."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from hwnas.data.tasks import AnyDataset
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork
from hwnas.training.config import TrainingConfig
from hwnas.training.layout import layout_for
from hwnas.training.losses import Ask, one_pass
from hwnas.training.optimization import average_share, set_learning_rate
from hwnas.training.processes import average_gradients
from hwnas.training.state import State
from hwnas.training.tasks import Task


class Step(Protocol):
    """How a step is done."""

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

    def update(self, rate: float, since_begin: int) -> None:
        """Move the weights at a learning rate, and their average after them.

        ``since_begin`` counts the steps since the average was a copy of the weights.
        """


class EagerStep:
    """Each operation when it is due, in one process or several; see :class:`Step`."""

    def __init__(
        self,
        state: State,
        task: Task,
        dataset: AnyDataset,
        config: TrainingConfig,
        accelerator: Accelerator,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        assert isinstance(state.model, ElasticNetwork)
        self._model: ElasticNetwork = state.model
        self._layout = layout_for(self._model.space, next(state.model.parameters()).device)
        self._state, self._task, self._dataset, self._config = state, task, dataset, config
        self._accelerator, self._optimizer = accelerator, optimizer

    def passes(
        self,
        architectures: Sequence[Architecture],
        images: Tensor,
        targets: Sequence[Tensor],
        teacher: Ask | None,
        regularised: AbstractContextManager[None] | None,
    ) -> Tensor:
        """As :meth:`Step.passes`."""
        accelerator, losses, soft = self._accelerator, [], None
        if teacher is not None:
            with accelerator.autocast():
                soft = teacher(images)
        for index, architecture in enumerate(architectures):
            resolution, answers = architecture.resolution, soft
            with regularised if regularised and not index else nullcontext():
                cost, outputs = one_pass(
                    self._model,
                    architecture,
                    self._dataset.input(images, resolution, self._layout),
                    lambda out: self._task.loss(out, targets, resolution, answers),  # noqa: B023 -- called at once
                    accelerator.autocast,
                    accelerator.backward,
                )
            losses.append(cost)
            if soft is None and self._task.distils:
                assert isinstance(outputs, Tensor)
                soft = outputs.detach().float()
        stacked = torch.stack(losses)
        if accelerator.num_processes > 1:
            average_gradients(self._model, accelerator)
            stacked = accelerator.reduce(stacked, reduction="mean")
        return stacked

    def update(self, rate: float, since_begin: int) -> None:
        """As :meth:`Step.update`."""
        self._accelerator.unscale_gradients()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.gradient_clip, foreach=True)
        set_learning_rate(self._state.optimizer, rate)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        parameters = [parameter.detach() for parameter in self._model.parameters()]
        share = average_share(self._config.ema_decay, since_begin)
        torch._foreach_lerp_(list(self._state.average.values()), parameters, share)
