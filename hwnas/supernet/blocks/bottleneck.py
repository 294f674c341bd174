"""``bottleneck``: the residual block of ResNet-50."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import ElasticConvNorm, by_importance, permute
from hwnas.supernet.layers import ConvNorm, activate


class Bottleneck(nn.Module):
    """``BlockSpec`` of op ``bottleneck``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.reduce = ConvNorm(spec.in_channels, spec.mid_channels)
        self.filter = ConvNorm(spec.mid_channels, spec.mid_channels, spec.kernel, spec.stride)
        self.widen = ConvNorm(spec.mid_channels, spec.out_channels)
        self.shortcut = None if spec.skip else ConvNorm(spec.in_channels, spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        activation = self.spec.activation
        y = activate(self.reduce(x), activation)
        y = self.widen(activate(self.filter(y), activation))
        if self.shortcut is not None:
            x = cast(Tensor, self.shortcut(pooled(x, self.spec.stride)))
        return activate(x + y, activation)


class ElasticBottleneck(ElasticBlock):
    """A ``bottleneck`` of elastic input, output and inner width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        ins, mid, outs = (
            max(getattr(spec, width) for spec in specs) for width in ("in_channels", "mid_channels", "out_channels")
        )
        self.reduce = ElasticConvNorm(ins, mid)
        self.filter = ElasticConvNorm(mid, mid, specs[0].kernel, specs[0].stride)
        self.widen = ElasticConvNorm(mid, outs)
        self.shortcut = None if all(spec.skip for spec in specs) else ElasticConvNorm(ins, outs)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        y = activate(self.reduce(x, spec.mid_channels), spec.activation)
        y = activate(self.filter(y, spec.mid_channels), spec.activation)
        y = self.widen(y, spec.out_channels)
        if not spec.skip:
            assert self.shortcut is not None
            x = cast(Tensor, self.shortcut(pooled(x, spec.stride), spec.out_channels))
        return activate(x + y, spec.activation)

    @torch.no_grad()
    def copy_to(self, block: Bottleneck) -> None:
        """Write the active part into a plain block."""
        self.reduce.copy_to(block.reduce)
        self.filter.copy_to(block.filter)
        self.widen.copy_to(block.widen)
        if self.shortcut is not None and block.shortcut is not None:
            self.shortcut.copy_to(block.shortcut)

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Sort the channels between the convolutions by importance; the output is unchanged.

        Those of the stream between blocks, which all blocks of a stage share, stay in their order, as in the
        published once-for-all ResNet.
        """
        for before, after in ((self.filter, self.widen), (self.reduce, self.filter)):
            order = by_importance(after.conv.weight)
            permute(after.conv.weight, order, dim=1)
            before.permute_output(order)


def pooled(x: Tensor, stride: int) -> Tensor:
    """The mean over each square of ``stride`` pixels."""
    return x if stride == 1 else F.avg_pool2d(x, stride)
