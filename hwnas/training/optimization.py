"""Optimizer, learning rate and moving average of a training run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from hwnas.training.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> Optimizer:
    """The configured optimizer; only matrices and kernels decay, not biases, norms and kernel transforms."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "transforms" not in name]
    kept = [p for name, p in model.named_parameters() if p.ndim <= 1 or "transforms" in name]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.learning_rate)
    return SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """The rate of a step: linear warm-up, then a half cosine to zero (Loshchilov and Hutter 2017, without restarts)."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total_steps - warmup, 1)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, since_begin: int) -> None:
    """Move the average of the parameters, by name, towards the model's; its memory is short at first.

    ``since_begin`` counts the steps since the average was a copy of the parameters, so that they are soon forgotten.
    """
    short = min(decay, (1 + since_begin) / (10 + since_begin))
    torch._foreach_lerp_(list(average.values()), [p.detach() for p in model.parameters()], 1 - short)
