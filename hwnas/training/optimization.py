"""Optimizer, learning rate and moving average of a training run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from hwnas.supernet import ElasticNetwork
from hwnas.training.config import TrainingConfig
from hwnas.training.recipes import Phase


def make_optimizer(model: nn.Module, config: TrainingConfig, *, replayed: bool = False) -> Optimizer:
    """The configured optimizer; only matrices and kernels decay, not biases, norms and kernel transforms.

    Each group has its ``scale`` on the learning rate (``TrainingConfig.layer_decay``).

    Args:
        replayed: its step can be recorded (:mod:`hwnas.training.graphs`): gradients lie as their weights do from the
            first step on, and rates are tensors.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for scale, layer in _layers(model, config.layer_decay):
        for name, parameter in layer.named_parameters():
            decays = parameter.ndim > 1 and "transforms" not in name
            groups.setdefault((scale, config.weight_decay if decays else 0.0), []).append(parameter)
    settings: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "scale": scale} for (scale, decay), parameters in groups.items()
    ]
    momentum = config.momentum
    if replayed:
        device = next(model.parameters()).device
        for group in settings:
            group["lr"] = torch.tensor(config.learning_rate, device=device)
        if config.optimizer == "adamw":
            return AdamW(settings, fused=True, capturable=True)
        return SGD(settings, momentum=momentum, nesterov=momentum > 0, fused=True)
    if config.optimizer == "adamw":
        return AdamW(settings, lr=config.learning_rate, foreach=True)
    # Torch's fused optimizers take neither gradients laid out unlike their weights, as those of slices are, nor weights
    # that had none before, as those of subnets not yet drawn.
    return SGD(settings, lr=config.learning_rate, momentum=momentum, nesterov=momentum > 0, foreach=True)


def _layers(model: nn.Module, decay: float) -> list[tuple[float, nn.Module]]:
    """The blocks of a network, each with its scale: 1 for the last, ``decay`` for the one before it, and so on."""
    if decay == 1:
        return [(1.0, model)]
    layers = list(model.blocks.values() if isinstance(model, ElasticNetwork) else model.children())
    return [(decay ** (len(layers) - 1 - index), layer) for index, layer in enumerate(layers)]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The rate of the next step, before each group's scale."""
    for group in optimizer.param_groups:
        own = rate * group["scale"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """The rate of a step: linear warm-up, then a half cosine to the floor (Loshchilov and Hutter 2017)."""
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(total_steps - warmup, 1)
    return config.learning_rate * max(0.5 * (1 + math.cos(math.pi * done)), config.learning_rate_floor)


def phase_rate(config: TrainingConfig, phase: Phase, step: int, steps_per_epoch: int) -> float:
    """The rate of a step within its phase's cycle; only the run's first cycle warms up."""
    first, end, height = phase.cycle
    cold = config if first == 0 else config.model_copy(update={"warmup_epochs": 0.0})
    return height * learning_rate(cold, step - first, steps_per_epoch, end - first)


def average_share(decay: float, since_begin: int) -> float:
    """How far the average of the parameters moves towards them at a step; its memory is short at first.

    ``since_begin`` counts the steps since the average was a copy of the parameters, so that they are soon forgotten.
    """
    return 1 - min(decay, (1 + since_begin) / (10 + since_begin))
