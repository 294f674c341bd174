"""Layers that the plain blocks are made of."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

BN_MOMENTUM = 0.1
BN_EPS = 1e-5


def activate(x: Tensor, activation: str) -> Tensor:
    """``relu``, ``relu6``, ``h_swish`` (Howard et al. 2019, Sec. 5.2) or ``none``, in place."""
    if activation == "relu6":
        return F.hardtanh(x, 0.0, 6.0, inplace=True)
    if activation == "none":
        return x
    return F.relu(x, inplace=True) if activation == "relu" else F.hardswish(x, inplace=True)


class ConvNorm(nn.Module):
    """Convolution with "same" padding and batch norm; attributes ``conv`` and ``norm``."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)

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
