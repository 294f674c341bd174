"""Accuracy of a network on a stream of batches."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.inference_mode()
def hits(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Which images' largest logit is the right class, bool [n of all batches]; arguments as of :func:`top1`."""
    return torch.cat([network(images).argmax(1) == labels for images, labels in batches])


def top1(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of images whose largest logit is the right class, in 0..1.

    Args:
        network: in evaluation mode, [n, 3, r, r] to [n, classes].
        batches: pairs of images [n, 3, r, r] and labels [n].
    """
    found = hits(network, batches)
    return int(found.sum()) / len(found)
