"""Plain networks: a chain of blocks as ordinary ``nn.Module``s, with weights of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec

BN_MOMENTUM = 0.1
BN_EPS = 1e-5


def activate(x: Tensor, activation: str) -> Tensor:
    """``relu`` or ``h_swish`` (Howard et al. 2019, Sec. 5.2), in place."""
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


class ConvBlock(nn.Module):
    """``BlockSpec`` of op ``conv``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.body = ConvNorm(spec.in_channels, spec.out_channels, spec.kernel, spec.stride)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to [n, out, h', w']."""
        return activate(self.body(x), self.spec.activation)


class MBConv(nn.Module):
    """``BlockSpec`` of op ``mbconv``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        mid = spec.mid_channels
        self.expand = ConvNorm(spec.in_channels, mid) if spec.expands else None
        self.depthwise = ConvNorm(mid, mid, spec.kernel, spec.stride, groups=mid)
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


class Head(nn.Module):
    """``BlockSpec`` of op ``head``: features to logits."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mix = nn.Conv2d(spec.in_channels, spec.mid_channels, 1, bias=False)
        self.classifier = nn.Linear(spec.mid_channels, spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to logits [n, classes]."""
        x = activate(self.mix(x.mean((2, 3), keepdim=True)), self.spec.activation)
        return cast(Tensor, self.classifier(x.flatten(1)))


_MODULES: dict[str, type[ConvBlock] | type[MBConv] | type[Head]] = {
    "conv": ConvBlock,
    "mbconv": MBConv,
    "head": Head,
}


class PlainNetwork(nn.Sequential):
    """A chain of blocks, from images [n, 3, r, r] to logits [n, classes]."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__(*(_MODULES[spec.op](spec) for spec in specs))
        self.specs = tuple(specs)
        initialise(self)


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """He initialisation by fan-out (He et al. 2015, Sec. 2.2); small classifier weights."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def mobilenet_v3_small(resolution: int, num_classes: int) -> list[BlockSpec]:
    """MobileNetV3-Small (Howard et al. 2019, Table 2), the yardstick that everybody knows.

    As in torchvision, squeeze-and-excite has a quarter of the expanded channels, rounded to a multiple of 8.
    """
    rows: list[tuple[int, int, int, bool, bool, int]] = [
        # kernel, expanded, out, SE, h-swish, stride
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    ]
    specs = [BlockSpec("conv", 3, resolution, resolution, 16, kernel=3, stride=2, activation="h_swish")]
    for kernel, mid, out, se, h_swish, stride in rows:
        last = specs[-1]
        activation = "h_swish" if h_swish else "relu"
        skip = stride == 1 and last.out_channels == out
        size = (last.out_height, last.out_width)
        specs.append(
            BlockSpec("mbconv", last.out_channels, *size, out, mid, kernel, stride, se, activation, skip)  # type: ignore[arg-type]
        )
    size = (specs[-1].out_height, specs[-1].out_width)
    specs.append(BlockSpec("conv", 96, *size, 576, activation="h_swish"))
    specs.append(BlockSpec("head", 576, *size, num_classes, 1024, activation="h_swish"))
    return specs
