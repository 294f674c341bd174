"""``fuse_coarser``, ``fuse_finer``, ``fuse_finer_twice``: the weighted sums of a BiFPN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.spaces.operations.fuse import HALVING
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.layers import activate

EPSILON = 1e-4
"""Added to the sum of the weights (Tan et al. 2020, Sec. 3.3)."""


class Fuse(nn.Module):
    """``BlockSpec`` of these operations."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.weight = nn.Parameter(torch.ones(len(spec.input_shapes)))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Maps [n, c, h, w], the last of a neighbouring level, to [n, c, h, w]."""
        weight = F.relu(self.weight)
        shares = (weight / (weight.sum() + EPSILON)).unbind()
        total = inputs[0] * shares[0]
        for x, share in zip(inputs[1:-1], shares[1:-1], strict=True):
            total = total + x * share
        return activate(total + self._resampled(inputs[-1] * shares[-1]), self.spec.activation)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.spec.op == "fuse_coarser":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        kernel, stride = HALVING
        return F.max_pool2d(x, kernel, stride, kernel // 2)


class ElasticFuse(ElasticBlock):
    """A weighted sum of maps of any width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        self.fuse = Fuse(specs[0])

    def forward(self, *inputs: Tensor, spec: BlockSpec) -> Tensor:  # noqa: ARG002 -- the inputs say the width
        """As :meth:`Fuse.forward`."""
        return cast(Tensor, self.fuse(*inputs))

    @torch.no_grad()
    def copy_to(self, block: Fuse) -> None:
        """Write the weights into a plain block."""
        block.weight.copy_(self.fuse.weight)
