"""How much the loss would change if a channel were not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from hwnas.supernet.layers import ConvNorm
from hwnas.supernet.plain import PlainNetwork
from hwnas.supernet.pruning.layout import Layout


def channel_importance(network: PlainNetwork, layout: Layout, losses: Iterable[Tensor]) -> dict[int, Tensor]:
    """Importance of every channel, [channels], by the number of its set in the layout, of those that are not composed.

    The square of the first-order change of the loss, summed over batches (Molchanov et al. 2019, "Importance Estimation
    for Neural Network Pruning", Sec. 3, Taylor-FO with gates).  A channel's gate stands before all layers that read
    it, where closing it takes it out of the network: one of a feature map with skip connections has a reader in every
    block, one that a squeeze looks at has two, and one of a tower has one on each level.

    Args:
        network: in evaluation mode; its gradients are left empty.
        layout: of its blocks.
        losses: of the network on batches of the training split, each computed when it is asked for.
    """
    readers = list(_readers(network, layout))
    total: dict[int, Tensor] = {}
    for loss in losses:
        network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        change: dict[int, Tensor] = {}
        for number, weight in readers:
            assert weight.grad is not None
            closed = (weight * weight.grad).detach().transpose(0, 1).flatten(1).sum(1)
            parts = layout.parts[number]
            shares = torch.split(closed, [layout.widths[part] for part in parts])
            for part, share in zip(parts, shares, strict=True):
                change[part] = change.get(part, 0) + share
        total = {number: total.get(number, 0) + each.square() for number, each in change.items()}
    network.zero_grad()
    return total


def _readers(network: PlainNetwork, layout: Layout) -> Iterator[tuple[int, Tensor]]:
    """The weights [out, in, …] that read channels, each with the number of their set."""
    for path, _, read in layout.layers():
        if read is not None:
            module = network.get_submodule(path)
            layer = module.conv if isinstance(module, ConvNorm) else module
            assert isinstance(layer, nn.Conv2d | nn.Linear)
            yield read, layer.weight
