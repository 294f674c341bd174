"""The depthwise separable convolution of cell spaces, applied twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def separable(chain: Chain, spec: BlockSpec) -> None:
    """Twice ReLU, depthwise ``kernel``, 1×1 convolution with batch norm; the first has the stride.

    As in Zoph et al. 2018 and Liu et al. 2019 ("DARTS", Sec. 3.1); nothing is between depthwise and 1×1 convolution.
    """
    for name, channels, stride in (("first", spec.in_channels, spec.stride), ("second", spec.out_channels, 1)):
        chain.activate(f"{name}.rectified", spec.activation)
        ins = chain.shape[0]
        chain.conv(f"{name}.depthwise", ins, spec.kernel, stride, groups=ins, bias=False)
        chain.conv(f"{name}.mix.conv", channels)
