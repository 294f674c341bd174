"""``adapt``: a feature map brought to another size and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.blocks.bottleneck import pooled
from hwnas.supernet.elastic import ElasticConvNorm
from hwnas.supernet.layers import ConvNorm


class Adapt(nn.Module):
    """``BlockSpec`` of op ``adapt``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.fit = ConvNorm(spec.in_channels, spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h/stride, w/stride]."""
        return cast(Tensor, self.fit(pooled(x, self.spec.stride)))


class ElasticAdapt(ElasticBlock):
    """An ``adapt`` of elastic input and output width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        self.fit = ElasticConvNorm(max(s.in_channels for s in specs), max(s.out_channels for s in specs))

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h/stride, w/stride]."""
        return cast(Tensor, self.fit(pooled(x, spec.stride), spec.out_channels))

    @torch.no_grad()
    def copy_to(self, block: Adapt) -> None:
        """Write the active part into a plain block."""
        self.fit.copy_to(block.fit)
