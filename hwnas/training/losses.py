"""The loss of one subnet on one batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.training.config import TrainingConfig

NEAR = 1e-3
"""An alpha as near to 0 or 1 is taken for it."""

Outputs = Tensor | tuple[Tensor, ...]
"""Of a network: one tensor, or several."""


def classification_loss(logits: Tensor, targets: Tensor, teacher: Tensor | None, config: TrainingConfig) -> Tensor:
    """Cross entropy, or its mixture with the distance from the teacher.

    Args:
        logits, teacher: [n, classes].
        targets: class numbers [n], or probabilities [n, classes].
    """
    distillation = 0.0 if teacher is None else config.distillation
    loss = logits.new_zeros(())
    if teacher is not None and distillation:
        if config.divergence == "alpha":
            soft = alpha_divergence(logits, teacher, (config.alpha_min, config.alpha_max), config.alpha_clip)
        else:
            soft = F.cross_entropy(logits, teacher.softmax(1))  # KL but for the teacher's own entropy
        loss = distillation * soft
    if distillation < 1:
        hard = F.cross_entropy(logits, targets, label_smoothing=config.label_smoothing)
        loss = loss + (1 - distillation) * hard
    return loss


def alpha_divergence(student: Tensor, teacher: Tensor, alphas: tuple[float, float], clip: float) -> Tensor:
    """Adaptive alpha-divergence of a student from its teacher, mean over the batch.

    A negative alpha punishes a student that is too sure, a positive one a student that is not sure enough; of both
    the larger counts for each image (Wang et al. 2021, "AlphaNet", and ``AdaptiveLossSoft`` of its code).

    Args:
        student, teacher: logits [n, classes].
        alphas: the lower and the upper one.
        clip: bound of (p/q)^alpha, which keeps gradients of bounded variance.
    """
    log_q = student.log_softmax(1)
    lower, upper = (_alpha_divergence(log_q, teacher.log_softmax(1), alpha, clip) for alpha in alphas)
    value, gradient = (torch.where(lower[0] > upper[0], a, b).mean() for a, b in zip(lower, upper, strict=True))
    return gradient + (value - gradient).detach()


def _alpha_divergence(log_q: Tensor, log_p: Tensor, alpha: float, clip: float) -> tuple[Tensor, Tensor]:
    """D(p‖q) of each image, and a term whose gradient is D's with the clipped ratio taken as a constant."""
    q, log_ratio = log_q.detach().exp(), log_p - log_q.detach()
    if abs(alpha) < NEAR:  # the limit: KL(q‖p); the ratio is near 1, and its difference from it would be rounding
        return -(q * log_ratio).sum(1), -(q * log_ratio * log_q).sum(1)
    if abs(alpha - 1) < NEAR:  # the limit: KL(p‖q), which needs no clipping
        p = log_p.exp()
        return (p * log_ratio).sum(1), -(p * log_q).sum(1)
    ratio = (alpha * log_ratio).exp().clamp(max=clip)
    return (q * (ratio - 1)).sum(1) / (alpha * (alpha - 1)), -(q * ratio * log_q).sum(1) / alpha
