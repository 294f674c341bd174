"""``conv``: convolution, batch norm, activation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import ElasticConvNorm
from hwnas.supernet.layers import ConvNorm, activate


class ConvBlock(nn.Module):
    """``BlockSpec`` of op ``conv``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = ConvNorm(spec.in_channels, spec.out_channels, spec.kernel, spec.stride, padding=spec.padding)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        y = activate(self.body(x), self.spec.activation)
        return x + y if self.spec.skip else y


class ElasticConv(ElasticBlock):
    """A ``conv`` of elastic input and output width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        ins, outs = max(spec.in_channels for spec in specs), max(spec.out_channels for spec in specs)
        self.body = ElasticConvNorm(ins, outs, specs[0].kernel, specs[0].stride, specs[0].padding)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        y = activate(self.body(x, spec.out_channels), spec.activation)
        return x + y if spec.skip else y

    @torch.no_grad()
    def copy_to(self, block: ConvBlock) -> None:
        """Write the active part into a plain block."""
        self.body.copy_to(block.body)
