"""``mbconv``: the inverted residual."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import (
    ElasticBatchNorm,
    ElasticDepthwise,
    ElasticSqueezeExcite,
    by_importance,
    permute,
)
from hwnas.supernet.layers import ConvNorm, SqueezeExcite, activate


class MBConv(nn.Module):
    """``BlockSpec`` of op ``mbconv``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        mid = spec.mid_channels
        self.expand = ConvNorm(spec.in_channels, mid) if spec.expands else None
        self.depthwise = ConvNorm(mid, mid, spec.kernel, spec.stride, mid, spec.padding)
        self.se = SqueezeExcite(mid, spec.se_channels) if spec.se else None
        self.project = ConvNorm(mid, spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        y = x if self.expand is None else activate(self.expand(x), self.spec.activation)
        y = activate(self.depthwise(y), self.spec.activation)
        if self.se is not None:
            y = self.se(y)
        y = cast(Tensor, self.project(y))
        return x + y if self.spec.skip else y


class ElasticMBConv(ElasticBlock):
    """An ``mbconv`` of elastic kernel and expansion."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        largest = max(specs, key=lambda spec: spec.mid_channels)
        kernels = tuple(sorted({spec.kernel for spec in specs}))
        mid = largest.mid_channels
        self.expand = nn.Conv2d(largest.in_channels, mid, 1, bias=False)
        self.expand_norm = ElasticBatchNorm(mid)
        self.depthwise = ElasticDepthwise(mid, kernels, largest.stride, largest.padding)
        self.depthwise_norm = ElasticBatchNorm(mid)
        self.se = ElasticSqueezeExcite(mid, largest.se_channels) if largest.se else None
        self.project = nn.Conv2d(mid, largest.out_channels, 1, bias=False)
        self.project_norm = ElasticBatchNorm(largest.out_channels)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        mid = spec.mid_channels
        y = activate(self.expand_norm(F.conv2d(x, self.expand.weight[:mid])), spec.activation)
        y = activate(self.depthwise_norm(self.depthwise(y, spec.kernel)), spec.activation)
        if self.se is not None:
            y = self.se(y, spec.se_channels)
        y = cast(Tensor, self.project_norm(F.conv2d(y, self.project.weight[:, :mid])))
        return x + y if spec.skip else y

    @torch.no_grad()
    def copy_to(self, block: MBConv) -> None:
        """Write the active part into a plain block."""
        spec, mid = block.spec, block.spec.mid_channels
        assert isinstance(block.expand, ConvNorm)
        block.expand.conv.weight.copy_(self.expand.weight[:mid])
        self.expand_norm.copy_to(block.expand.norm)
        block.depthwise.conv.weight.copy_(self.depthwise.weight(mid, spec.kernel))
        self.depthwise_norm.copy_to(block.depthwise.norm)
        if self.se is not None and block.se is not None:
            self.se.copy_to(block.se)
        block.project.conv.weight.copy_(self.project.weight[:, :mid])
        self.project_norm.copy_to(block.project.norm)

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Sort the mid channels by importance, and those that the gate squeezes to; the output is unchanged."""
        order = by_importance(self.project.weight)
        permute(self.expand.weight, order, dim=0)
        permute(self.depthwise.conv.weight, order, dim=0)
        permute(self.project.weight, order, dim=1)
        for norm in (self.expand_norm, self.depthwise_norm):
            norm.permute(order)
        if self.se is not None:
            permute(self.se.reduce.weight, order, dim=1)
            permute(self.se.expand.weight, order, dim=0)
            permute(cast(Tensor, self.se.expand.bias), order, dim=0)
            squeezed = by_importance(self.se.expand.weight)
            permute(self.se.reduce.weight, squeezed, dim=0)
            permute(cast(Tensor, self.se.reduce.bias), squeezed, dim=0)
            permute(self.se.expand.weight, squeezed, dim=1)
