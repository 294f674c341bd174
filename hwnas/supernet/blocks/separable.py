"""``separable``: the depthwise separable convolution, applied twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import ElasticConvNorm, ElasticDepthwise
from hwnas.supernet.layers import ConvNorm, PaddedConv


class Separable(nn.Module):
    """``BlockSpec`` of op ``separable``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.first = _Half(spec.in_channels, spec.in_channels, spec.kernel, spec.stride)
        self.second = _Half(spec.in_channels, spec.out_channels, spec.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        return cast(Tensor, self.second(self.first(x)))


class _Half(nn.Module):
    def __init__(self, ins: int, outs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = PaddedConv(ins, ins, kernel, stride, ins)
        self.mix = ConvNorm(ins, outs)

    def forward(self, x: Tensor) -> Tensor:
        # Not in place: others may read the input.
        return cast(Tensor, self.mix(self.depthwise(F.relu(x))))


class ElasticSeparable(ElasticBlock):
    """A ``separable`` of elastic kernel."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        spec, kernels = specs[0], tuple(sorted({spec.kernel for spec in specs}))
        self.first = _ElasticHalf(spec.in_channels, spec.in_channels, kernels, spec.stride)
        self.second = _ElasticHalf(spec.in_channels, spec.out_channels, kernels)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        return cast(Tensor, self.second(self.first(x, spec.kernel), spec.kernel))

    @torch.no_grad()
    def copy_to(self, block: Separable) -> None:
        """Write the active part into a plain block."""
        self.first.copy_to(block.first, block.spec.kernel)
        self.second.copy_to(block.second, block.spec.kernel)


class _ElasticHalf(nn.Module):
    def __init__(self, ins: int, outs: int, kernels: tuple[int, ...], stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ElasticDepthwise(ins, kernels, stride)
        self.mix = ElasticConvNorm(ins, outs)
        self.outs = outs

    def forward(self, x: Tensor, kernel: int) -> Tensor:
        return cast(Tensor, self.mix(self.depthwise(F.relu(x), kernel), self.outs))

    def copy_to(self, half: _Half, kernel: int) -> None:
        half.depthwise.weight.copy_(self.depthwise.weight(half.depthwise.in_channels, kernel))
        self.mix.copy_to(half.mix)
