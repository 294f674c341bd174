"""``fire``: the module of SqueezeNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.elastic import ElasticBatchNorm, ElasticConvNorm, by_importance, permute
from hwnas.supernet.layers import ConvNorm, PaddedConv, activate


class Fire(nn.Module):
    """``BlockSpec`` of op ``fire``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.squeeze = ConvNorm(spec.in_channels, spec.mid_channels)
        self.pointwise = ConvNorm(spec.mid_channels, spec.out_channels - spec.spatial_channels)
        self.spatial = ConvNorm(spec.mid_channels, spec.spatial_channels, spec.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        activation = self.spec.activation
        squeezed = activate(self.squeeze(x), activation)
        y = torch.cat([activate(expand(squeezed), activation) for expand in (self.pointwise, self.spatial)], 1)
        return x + y if self.spec.skip else y


class ElasticFire(ElasticBlock):
    """A ``fire`` of elastic input, squeeze and output width, and of an elastic share of spatial filters.

    A channel of the output keeps its place whichever filter gives it, so that those who read it need not care.  Where
    it may be given by either, its 1×1 filter is the centre of the larger one, as elastic kernels have it (Cai et al.
    2020, Sec. 3.3); the norm behind it, one of all channels, makes up for their scales.
    """

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        ins, mid, outs = (
            max(getattr(spec, width) for spec in specs) for width in ("in_channels", "mid_channels", "out_channels")
        )
        only_pointwise = min(spec.out_channels - spec.spatial_channels for spec in specs)
        self.squeeze = ElasticConvNorm(ins, mid)
        self.pointwise = PaddedConv(mid, only_pointwise)
        self.spatial = PaddedConv(mid, outs - only_pointwise, specs[0].kernel)
        self.norm = ElasticBatchNorm(outs)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """[n, in, h, w] to [n, out, h, w]."""
        squeezed = activate(self.squeeze(x, spec.mid_channels), spec.activation)
        pointwise, spatial = self._weights(spec)
        y = torch.cat([self.pointwise.convolve(squeezed, pointwise), self.spatial.convolve(squeezed, spatial)], 1)
        y = activate(self.norm(y), spec.activation)
        return x + y if spec.skip else y

    def _weights(self, spec: BlockSpec) -> tuple[Tensor, Tensor]:
        """Of both kinds of filters, [filters, mid, size, size]."""
        smaller, larger = self.pointwise.weight[:, : spec.mid_channels], self.spatial.weight[:, : spec.mid_channels]
        split, centre = spec.out_channels - spec.spatial_channels - len(smaller), spec.kernel // 2
        if split:
            smaller = torch.cat([smaller, larger[:split, :, centre : centre + 1, centre : centre + 1]])
        return smaller, larger[split : split + spec.spatial_channels]

    @torch.no_grad()
    def copy_to(self, block: Fire) -> None:
        """Write the active part into a plain block."""
        self.squeeze.copy_to(block.squeeze)
        for branch, weight in zip((block.pointwise, block.spatial), self._weights(block.spec), strict=True):
            branch.conv.weight.copy_(weight)
        self.norm.copy_to(block.pointwise.norm)
        self.norm.copy_to(block.spatial.norm, first=block.pointwise.norm.num_features)

    @torch.no_grad()
    def sort_channels(self) -> None:
        """Sort the squeezed channels by importance; the output is unchanged and stays in its order."""
        order = by_importance(self.pointwise.weight, self.spatial.weight)
        self.squeeze.permute_output(order)
        for expand in (self.pointwise, self.spatial):
            permute(expand.weight, order, dim=1)
