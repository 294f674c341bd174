"""A feature map brought to another size and width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def adapt(chain: Chain, spec: BlockSpec) -> None:
    """An average pool by the stride, and a 1×1 convolution with batch norm.

    A 1×1 convolution with a stride would leave out three of four pixels (He et al. 2019, "Bag of Tricks", Fig. 2c).
    """
    if spec.stride > 1:
        chain.average_pool("pool", spec.stride, spec.stride)
    chain.conv("fit.conv", spec.out_channels)
