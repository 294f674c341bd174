"""``separable``: the depthwise separable convolution, applied twice; ``separable_conv``: applied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import ElasticConvNorm, ElasticDepthwise
from hwnas.supernet.layers import ConvNorm, PaddedConv, activate


class Separable(nn.Module):
    """``BlockSpec`` of op ``separable``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.first = _Layers(spec.in_channels, spec.in_channels, spec.kernel, spec.stride)
        self.second = _Layers(spec.in_channels, spec.out_channels, spec.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        # Not in place: others may read the input.
        return cast(Tensor, self.second(F.relu(self.first(F.relu(x)))))


class SeparableConv(nn.Module):
    """``BlockSpec`` of op ``separable_conv``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.layers = _Layers(spec.in_channels, spec.out_channels, spec.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        return activate(self.layers(x), self.spec.activation)


class _Layers(nn.Module):
    def __init__(self, ins: int, outs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = PaddedConv(ins, ins, kernel, stride, ins)
        self.mix = ConvNorm(ins, outs)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.mix(self.depthwise(x)))


class ElasticSeparable(ElasticBlock):
    """A ``separable`` of elastic kernel."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        spec, kernels = specs[0], kernels_of(specs)
        self.first = _ElasticLayers(spec.in_channels, spec.in_channels, kernels, spec.stride)
        self.second = _ElasticLayers(spec.in_channels, spec.out_channels, kernels)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        x = self.first(F.relu(x), spec.kernel, spec.in_channels)
        return cast(Tensor, self.second(F.relu(x), spec.kernel, spec.out_channels))

    @torch.no_grad()
    def copy_to(self, block: Separable) -> None:
        """Write the active part into a plain block."""
        self.first.copy_to(block.first, block.spec.kernel)
        self.second.copy_to(block.second, block.spec.kernel)


class ElasticSeparableConv(ElasticBlock):
    """A ``separable_conv`` of elastic kernel, input and output width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        ins, outs = max(spec.in_channels for spec in specs), max(spec.out_channels for spec in specs)
        self.layers = _ElasticLayers(ins, outs, kernels_of(specs))

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        return activate(self.layers(x, spec.kernel, spec.out_channels), spec.activation)

    @torch.no_grad()
    def copy_to(self, block: SeparableConv) -> None:
        """Write the active part into a plain block."""
        self.layers.copy_to(block.layers, block.spec.kernel)


class _ElasticLayers(nn.Module):
    def __init__(self, ins: int, outs: int, kernels: tuple[int, ...], stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ElasticDepthwise(ins, kernels, stride)
        self.mix = ElasticConvNorm(ins, outs)

    def forward(self, x: Tensor, kernel: int, outs: int) -> Tensor:
        return cast(Tensor, self.mix(self.depthwise(x, kernel), outs))

    def copy_to(self, layers: _Layers, kernel: int) -> None:
        layers.depthwise.weight.copy_(self.depthwise.weight(layers.depthwise.in_channels, kernel))
        self.mix.copy_to(layers.mix)


def kernels_of(specs: Sequence[BlockSpec]) -> tuple[int, ...]:
    """The kernels that occur, ascending."""
    return tuple(sorted({spec.kernel for spec in specs}))
