"""The sandwich rule with in-place distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from hwnas.spaces import Architecture, Space
from hwnas.supernet import ElasticNetwork
from hwnas.training.config import TrainingConfig


def sandwich(space: Space, random_subnets: int, seed: tuple[int, ...]) -> list[Architecture]:
    """The subnets of one step: the largest, ``random_subnets`` others, the smallest (Yu and Huang 2019, Sec. 3.1).

    ``seed`` alone decides, so that all processes and a resumed run draw the same.
    """
    others = space.decode(space.sample(np.random.default_rng(seed), random_subnets))
    return [space.largest, *others, space.smallest]


def backward(
    supernet: ElasticNetwork,
    architectures: Sequence[Architecture],
    images: Callable[[int], Tensor],
    labels: Tensor,
    config: TrainingConfig,
    *,
    autocast: Callable[[], AbstractContextManager[None]],
    backpropagate: Callable[[Tensor], None],
) -> list[Tensor]:
    """Add the gradients of all ``architectures`` on one batch; returns each one's loss.

    The first is the teacher: it learns from the labels, the others from its soft labels as well (in-place
    distillation, Yu and Huang 2019, Sec. 3.3).

    Args:
        images: the batch at a resolution, [n, 3, r, r], normalised.
        labels: [n].
        autocast, backpropagate: as the accelerator does them.
    """
    teacher: Tensor | None = None
    losses: list[Tensor] = []
    for architecture in architectures:
        with autocast():
            logits = supernet(images(architecture.resolution), architecture)
        logits = logits.float()
        if teacher is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
            teacher = logits.detach().softmax(1)
        else:
            loss = config.distillation * F.cross_entropy(logits, teacher)
            if config.distillation < 1:
                hard = F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
                loss = loss + (1 - config.distillation) * hard
        backpropagate(loss)
        losses.append(loss.detach())
    return losses
