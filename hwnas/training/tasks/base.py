"""What a task is to the loop that trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hwnas.errors import UserError
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.training.batches import Make
from hwnas.training.config import TrainingConfig
from hwnas.training.losses import Outputs


class Task(ABC):
    """What a supernet learns from and what its mistakes cost.

    Attributes:
        knows_nothing: loss of a network that knows nothing, at least.
        distils: whether the first subnet of a step, or another network, can teach the others.
        recalibration: as of a supernet (:attr:`ElasticNetwork.recalibration`).
    """

    knows_nothing: float
    distils: bool
    recalibration: dict[str, Any]

    @abstractmethod
    def begin(self, supernet: ElasticNetwork) -> None:
        """Prepare a supernet that has not learned anything."""

    @abstractmethod
    def maker(self, device: torch.device) -> Make:
        """How the batches of a run are made, on the device."""

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Sequence[Tensor], resolution: int, teacher: Outputs | None, /) -> Tensor:
        """What a network's answers to a batch cost, a scalar.

        Args:
            outputs: of images of ``resolution`` pixels, in any floating point type.
            targets: of :meth:`maker`.
            teacher: the answers to learn from; None: the targets alone.
        """

    @abstractmethod
    def losses(self, network: PlainNetwork, resolution: int) -> Iterator[Tensor]:
        """What a network's answers to the recalibration images cost by their targets, batch by batch."""


def refuse_changed(config: TrainingConfig, names: Sequence[str], task: str) -> None:
    """Refuse settings that would do nothing.

    Raises:
        UserError: one of them is not at its default.
    """
    for name in names:
        default = TrainingConfig.model_fields[name].get_default(call_default_factory=True, validated_data={})
        if getattr(config, name) != default:
            raise UserError(f"The training setting '{name}' does not apply to {task}; leave it out.")
