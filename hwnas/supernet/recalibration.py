"""Batch-norm statistics for one subnet."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the batch-norm statistics of a plain network to their mean over the images of ``batches`` [n, 3, r, r].

    The statistics of shared weights mix those of all subnets, so every subnet is recalibrated before it is
    evaluated ("post-statistics", Yu and Huang 2019, "Universally Slimmable Networks").  The network is left in
    evaluation mode.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    seen = 0
    for batch in batches:
        seen += len(batch)
        for norm in norms:
            norm.momentum = len(batch) / seen  # torch's own cumulative average counts a batch of one image as any other
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
