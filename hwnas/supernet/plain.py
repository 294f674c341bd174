"""Plain networks: blocks as ordinary ``nn.Module``s, with weights of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.spaces import Architecture, BlockSpec, Network, Space
from hwnas.spaces.space import NORM_EPS
from hwnas.supernet.blocks import BLOCKS


class PlainNetwork(nn.ModuleList):
    """The modules of a network's blocks, from images [n, 3, r, r] to logits [n, classes].

    Args:
        network: what it computes; blocks alone form a chain.
        norm_eps: see :class:`hwnas.spaces.Space`.
    """

    def __init__(self, network: Network | Sequence[BlockSpec], norm_eps: float = NORM_EPS) -> None:
        network = Network.of(network)
        super().__init__(BLOCKS[spec.op].plain(spec) for spec in network.blocks)
        self.network = network
        self.norm_eps = norm_eps
        initialise(self, norm_eps)

    @classmethod
    def of(cls, space: Space, architecture: Architecture) -> PlainNetwork:
        """The network of an architecture, untrained."""
        return cls(space.network(architecture), space.norm_eps)

    @property
    def specs(self) -> tuple[BlockSpec, ...]:
        """The blocks."""
        return self.network.blocks

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Images [n, 3, r, r] to logits [n, classes], or a tuple of several outputs."""
        return outputs_of(self.network.run(inputs, lambda number, taken: cast(Tensor, self[number](*taken))))


def outputs_of(given: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
    """The one output of a network, or a tuple of several."""
    outputs = tuple(given.values())
    return outputs[0] if len(outputs) == 1 else outputs


@torch.no_grad()
def initialise(network: nn.Module, norm_eps: float) -> None:
    """He initialisation by fan-out (He et al. 2015, Sec. 2.2); small classifier weights."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.eps = norm_eps
