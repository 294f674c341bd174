"""Accuracy of a network on a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.inference_mode()
def top1(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of images whose largest logit is the right class, in 0..1.

    Args:
        network: in evaluation mode, [n, 3, r, r] to [n, classes].
        batches: pairs of images [n, 3, r, r] and labels [n].
    """
    correct = seen = 0
    for images, labels in batches:
        correct += int((network(images).argmax(1) == labels).sum())
        seen += len(labels)
    return correct / seen
