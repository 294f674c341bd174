"""The depthwise separable convolution: that of cell spaces, applied twice, and that of detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def separable(chain: Chain, spec: BlockSpec) -> None:
    """Twice ReLU, depthwise ``kernel``, 1×1 convolution with batch norm; the first has the stride.

    As in Zoph et al. 2018 and Liu et al. 2019 ("DARTS", Sec. 3.1).
    """
    for name, channels, stride in (("first", spec.in_channels, spec.stride), ("second", spec.out_channels, 1)):
        chain.activate(f"{name}.rectified", spec.activation)
        _layers(chain, name, channels, spec.kernel, stride)


def separable_conv(chain: Chain, spec: BlockSpec) -> None:
    """Depthwise ``kernel``, 1×1 convolution with batch norm, activation (Tan et al. 2020, Sec. 3.3)."""
    _layers(chain, "layers", spec.out_channels, spec.kernel)
    chain.activate("activation", spec.activation)


def _layers(chain: Chain, name: str, channels: int, kernel: int, stride: int = 1) -> None:
    """Nothing is between depthwise and 1×1 convolution."""
    ins = chain.shape[0]
    chain.conv(f"{name}.depthwise", ins, kernel, stride, groups=ins, bias=False)
    chain.conv(f"{name}.mix.conv", channels)
