"""``predict``: what a detector says of each place of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.blocks.separable import kernels_of
from hwnas.supernet.elastic import ElasticDepthwise
from hwnas.supernet.layers import PaddedConv


class Predict(nn.Module):
    """``BlockSpec`` of op ``predict``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.depthwise = PaddedConv(spec.in_channels, spec.in_channels, spec.kernel, groups=spec.in_channels)
        self.mix = nn.Conv2d(spec.in_channels, spec.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        return cast(Tensor, self.mix(self.depthwise(x)))


class ElasticPredict(ElasticBlock):
    """A ``predict`` of elastic kernel and input width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        ins = max(spec.in_channels for spec in specs)
        self.depthwise = ElasticDepthwise(ins, kernels_of(specs), stride=1)
        self.mix = nn.Conv2d(ins, specs[0].out_channels, 1)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        return F.conv2d(self.depthwise(x, spec.kernel), self.mix.weight[:, : x.shape[1]], self.mix.bias)

    @torch.no_grad()
    def copy_to(self, block: Predict) -> None:
        """Write the active part into a plain block."""
        channels = block.spec.in_channels
        block.depthwise.weight.copy_(self.depthwise.weight(channels, block.spec.kernel))
        block.mix.weight.copy_(self.mix.weight[:, :channels])
        assert block.mix.bias is not None and self.mix.bias is not None
        block.mix.bias.copy_(self.mix.bias)
