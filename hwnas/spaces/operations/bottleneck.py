"""The bottleneck of ResNet-50, with the shortcut of ResNet-D."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def bottleneck(chain: Chain, spec: BlockSpec) -> None:
    """He et al. 2016, Fig. 5, with the stride in the middle convolution.

    1×1 to ``mid_channels``, ``kernel``, 1×1 to ``out_channels``, plus the input and the last activation.  Without
    ``skip`` the input passes an average pool by the stride and a 1×1 convolution (He et al. 2019, "Bag of Tricks",
    Fig. 2c).
    """
    block_input, shape = chain.tensor, chain.shape
    chain.conv("reduce.conv", spec.mid_channels)
    chain.activate("reduce.activation", spec.activation)
    chain.conv("filter.conv", spec.mid_channels, spec.kernel, spec.stride)
    chain.activate("filter.activation", spec.activation)
    chain.conv("widen.conv", spec.out_channels)
    inside, shortcut = chain.tensor, block_input
    if not spec.skip:
        chain.tensor, chain.shape = block_input, shape
        if spec.stride > 1:
            chain.average_pool("shortcut.pool", spec.stride, spec.stride)
        chain.conv("shortcut.conv", spec.out_channels)
        shortcut = chain.tensor
    chain.append("sum", "Add", chain.shape, inputs=[shortcut, inside])
    chain.activate("activation", spec.activation)
