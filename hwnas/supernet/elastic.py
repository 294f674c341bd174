"""Layers whose weights are shared by all their sizes; smaller sizes are views of the largest.

Each takes its active size at every call, so a network has no hidden state; ``copy_to`` writes the active part
into the corresponding plain layer.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.plain import BN_EPS, BN_MOMENTUM, ConvNorm, MBConv, SqueezeExcite, activate


class ElasticBatchNorm(nn.BatchNorm2d):
    """Batch norm over the first channels; running statistics are kept for each prefix in common.

    The statistics of any one subnet are therefore wrong until it has been recalibrated
    (:func:`hwnas.supernet.recalibrate`).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=BN_EPS, momentum=BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, h, w] with any c up to the largest."""
        c = x.shape[1]
        assert self.running_mean is not None and self.running_var is not None
        mean, var = self.running_mean[:c], self.running_var[:c]
        training = self.training
        return F.batch_norm(x, mean, var, self.weight[:c], self.bias[:c], training, BN_MOMENTUM, BN_EPS)

    def copy_to(self, norm: nn.BatchNorm2d) -> None:
        """Write the first channels into a plain layer."""
        for name in ("weight", "bias", "running_mean", "running_var"):
            target = getattr(norm, name)
            target.copy_(getattr(self, name)[: len(target)])


class ElasticDepthwise(nn.Module):
    """Depthwise convolution of elastic width and kernel.

    A smaller kernel is the centre of the next larger one, passed through a learned matrix that all channels
    share (Cai et al. 2020, Sec. 3.3 "Elastic Kernel Size"); it starts as the identity.
    """

    def __init__(self, channels: int, kernels: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.kernels = tuple(sorted(kernels))
        self.stride = stride
        largest = self.kernels[-1]
        self.conv = nn.Conv2d(channels, channels, largest, stride, largest // 2, groups=channels, bias=False)
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
        return F.conv2d(x, self.weight(c, kernel), None, self.stride, kernel // 2, 1, c)


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


class ElasticMBConv(nn.Module):
    """An ``mbconv`` of elastic kernel and expansion; made for its largest ``BlockSpec``.

    ``forward`` and ``copy_to`` take the active one, which may differ in kernel and mid channels only.
    """

    def __init__(self, largest: BlockSpec, kernels: tuple[int, ...]) -> None:
        super().__init__()
        mid = largest.mid_channels
        self.expand = nn.Conv2d(largest.in_channels, mid, 1, bias=False)
        self.expand_norm = ElasticBatchNorm(mid)
        self.depthwise = ElasticDepthwise(mid, kernels, largest.stride)
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
        """Sort the mid channels by importance, so that narrow subnets keep the best; the output is unchanged.

        Importance is the L1 norm of the weights that read a channel (Cai et al. 2020, Sec. 3.3 "Elastic
        Width").
        """
        order = _by_importance(self.project.weight)
        _permute(self.expand.weight, order, dim=0)
        _permute(self.depthwise.conv.weight, order, dim=0)
        _permute(self.project.weight, order, dim=1)
        for norm in (self.expand_norm, self.depthwise_norm):
            for name in ("weight", "bias", "running_mean", "running_var"):
                _permute(getattr(norm, name), order, dim=0)
        if self.se is not None:
            _permute(self.se.reduce.weight, order, dim=1)
            _permute(self.se.expand.weight, order, dim=0)
            _permute(cast(Tensor, self.se.expand.bias), order, dim=0)
            squeezed = _by_importance(self.se.expand.weight)
            _permute(self.se.reduce.weight, squeezed, dim=0)
            _permute(cast(Tensor, self.se.reduce.bias), squeezed, dim=0)
            _permute(self.se.expand.weight, squeezed, dim=1)


def _by_importance(weight: Tensor) -> Tensor:
    """Input channels of a 1×1 convolution, the most important first."""
    return torch.argsort(weight.abs().sum((0, 2, 3)), descending=True, stable=True)


def _permute(tensor: Tensor, order: Tensor, dim: int) -> None:
    tensor.copy_(tensor.index_select(dim, order))
