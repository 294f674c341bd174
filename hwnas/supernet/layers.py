"""Layers that the plain blocks are made of."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces.padding import Padding, same_pads

BN_MOMENTUM = 0.1


def activate(x: Tensor, activation: str) -> Tensor:
    """``relu``, ``relu6``, ``h_swish`` (Howard et al. 2019, Sec. 5.2) or ``none``, in place."""
    if activation == "relu6":
        return F.hardtanh(x, 0.0, 6.0, inplace=True)
    if activation == "none":
        return x
    return F.relu(x, inplace=True) if activation == "relu" else F.hardswish(x, inplace=True)


class PaddedConv(nn.Conv2d):
    """A convolution to ⌈size/stride⌉ pixels, without bias until a batch norm is folded into it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.same_upper = padding == "same_upper"

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return self.convolve(x, self.weight, self.groups)

    def convolve(self, x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
        """With this stride and padding, but a part of the weight."""
        kernel, stride = weight.shape[-1], self.stride[0]
        if not self.same_upper:
            return F.conv2d(x, weight, self.bias, stride, kernel // 2, 1, groups)
        height, width = (same_pads(int(size), kernel, stride) for size in x.shape[-2:])
        return F.conv2d(F.pad(x, (*width, *height)), weight, self.bias, stride, 0, 1, groups)


class ConvNorm(nn.Module):
    """Convolution and batch norm; attributes ``conv`` and ``norm``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        self.conv = PaddedConv(in_channels, out_channels, kernel, stride, groups, padding)
        self.norm = nn.BatchNorm2d(out_channels, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return cast(Tensor, self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Channel attention with a hard sigmoid gate (Howard et al. 2019, Sec. 5.3)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to the same shape."""
        gate = x.mean((2, 3), keepdim=True)
        gate = self.expand(F.relu(self.reduce(gate), inplace=True))
        return x * F.hardsigmoid(gate)
