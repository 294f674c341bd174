"""Layers whose weights are shared by all their sizes; smaller sizes are views of the largest.

Each takes its active size at every call, so a network has no hidden state; ``copy_to`` writes the active part
into the corresponding plain layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces.padding import Padding
from hwnas.supernet.layers import BN_MOMENTUM, ConvNorm, PaddedConv, SqueezeExcite


class ElasticBatchNorm(nn.BatchNorm2d):
    """Batch norm over the first channels; running statistics are kept for each prefix in common.

    The statistics of any one subnet are therefore wrong until it has been recalibrated
    (:func:`hwnas.supernet.recalibrate`).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] with any c up to the largest."""
        c = x.shape[1]
        assert self.running_mean is not None and self.running_var is not None
        mean, var = self.running_mean[:c], self.running_var[:c]
        training = self.training
        return F.batch_norm(x, mean, var, self.weight[:c], self.bias[:c], training, BN_MOMENTUM, self.eps)

    def copy_to(self, norm: nn.BatchNorm2d, first: int = 0) -> None:
        """Write the channels from ``first`` on into a plain layer, as many as it has."""
        for name in ("weight", "bias", "running_mean", "running_var"):
            target = getattr(norm, name)
            target.copy_(getattr(self, name)[first : first + len(target)])

    def permute(self, order: Tensor) -> None:
        """Reorder the channels."""
        for name in ("weight", "bias", "running_mean", "running_var"):
            permute(getattr(self, name), order, dim=0)


class ElasticConvNorm(nn.Module):
    """Convolution and batch norm, of elastic input and output width."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, padding: Padding = "symmetric"
    ) -> None:
        super().__init__()
        self.conv = PaddedConv(in_channels, out_channels, kernel, stride, padding=padding)
        self.norm = ElasticBatchNorm(out_channels)

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """[n, c, h, w] with any c up to the largest to [n, out, ⌈h/stride⌉, ⌈w/stride⌉]."""
        weight = self.conv.weight[:out_channels, : x.shape[1]]
        return cast(Tensor, self.norm(self.conv.convolve(x, weight)))

    def copy_to(self, layer: ConvNorm) -> None:
        """Write the active part into a plain layer."""
        out_channels, in_channels = layer.conv.weight.shape[:2]
        layer.conv.weight.copy_(self.conv.weight[:out_channels, :in_channels])
        self.norm.copy_to(layer.norm)

    def permute_output(self, order: Tensor) -> None:
        """Reorder the output channels, those of the norm included."""
        permute(self.conv.weight, order, dim=0)
        self.norm.permute(order)


class ElasticDepthwise(nn.Module):
    """Depthwise convolution of elastic width and kernel.

    A smaller kernel is the centre of the next larger one, passed through a learned matrix that all channels
    share (Cai et al. 2020, Sec. 3.3 "Elastic Kernel Size"); it starts as the identity.
    """

    def __init__(self, channels: int, kernels: tuple[int, ...], stride: int, padding: Padding = "symmetric") -> None:
        super().__init__()
        self.kernels = tuple(sorted(kernels))
        self.conv = PaddedConv(channels, channels, self.kernels[-1], stride, channels, padding)
        self.transforms = nn.ParameterDict(
            {f"to{kernel}": nn.Parameter(torch.eye(kernel**2)) for kernel in self.kernels[:-1]}
        )

    def weight(self, channels: int, kernel: int) -> Tensor:
        """The active kernel, [channels, 1, kernel, kernel]."""
        weight = self.conv.weight[:channels]
        for smaller in reversed(self.kernels[:-1]):
            if kernel > smaller:
                break
            margin = (weight.shape[-1] - smaller) // 2
            centre = weight[:, :, margin : margin + smaller, margin : margin + smaller]
            flat = F.linear(centre.reshape(channels, -1), self.transforms[f"to{smaller}"])
            weight = flat.view(channels, 1, smaller, smaller)
        return weight

    def forward(self, x: Tensor, kernel: int) -> Tensor:
        """[n, c, h, w] with any c up to the largest."""
        c = x.shape[1]
        return self.conv.convolve(x, self.weight(c, kernel), c)


class ElasticSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excite over the first channels, squeezed to the first of its own."""

    def forward(self, x: Tensor, squeezed: int | None = None) -> Tensor:
        """[n, c, h, w] with any c up to the largest."""
        c = x.shape[1]
        s = self.reduce.out_channels if squeezed is None else squeezed
        assert self.reduce.bias is not None and self.expand.bias is not None
        gate = x.mean((2, 3), keepdim=True)
        gate = F.relu(F.conv2d(gate, self.reduce.weight[:s, :c], self.reduce.bias[:s]), inplace=True)
        gate = F.conv2d(gate, self.expand.weight[:c, :s], self.expand.bias[:c])
        return x * F.hardsigmoid(gate)

    def copy_to(self, se: SqueezeExcite) -> None:
        """Write the active part into a plain layer."""
        s, c = se.reduce.weight.shape[:2]
        assert self.reduce.bias is not None and self.expand.bias is not None
        assert se.reduce.bias is not None and se.expand.bias is not None
        se.reduce.weight.copy_(self.reduce.weight[:s, :c])
        se.reduce.bias.copy_(self.reduce.bias[:s])
        se.expand.weight.copy_(self.expand.weight[:c, :s])
        se.expand.bias.copy_(self.expand.bias[:c])


def by_importance(*weights: Tensor) -> Tensor:
    """Input channels of one convolution or of several that read the same, the most important first.

    Importance is the L1 norm of the weights that read a channel (Cai et al. 2020, Sec. 3.3 "Elastic Width").
    """
    importance = torch.stack([weight.abs().sum((0, 2, 3)) for weight in weights]).sum(0)
    return torch.argsort(importance, descending=True, stable=True)


def permute(tensor: Tensor, order: Tensor, dim: int) -> None:
    """Reorder a parameter along a dimension, in place."""
    tensor.copy_(tensor.index_select(dim, order))
