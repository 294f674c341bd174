"""The module of SqueezeNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def fire(chain: Chain, spec: BlockSpec) -> None:
    """Iandola et al. 2016, Fig. 1, with a batch norm behind each convolution, which the paper has not.

    1×1 squeeze to ``mid_channels``; beside each other a 1×1 and a ``kernel`` convolution of it, which give the first
    and the last ``spatial_channels`` of the output; plus the input if ``skip`` (their "simple bypass", Sec. 6).
    """
    block_input = chain.tensor
    chain.conv("squeeze.conv", spec.mid_channels)
    chain.activate("squeeze.activation", spec.activation)
    squeezed, shape = chain.tensor, chain.shape
    chain.conv("pointwise.conv", spec.out_channels - spec.spatial_channels)
    chain.activate("pointwise.activation", spec.activation)
    pointwise = chain.tensor
    chain.tensor, chain.shape = squeezed, shape
    chain.conv("spatial.conv", spec.spatial_channels, spec.kernel)
    chain.activate("spatial.activation", spec.activation)
    chain.concat("concat", [pointwise, chain.tensor], spec.out_channels)
    if spec.skip:
        chain.append("skip", "Add", chain.shape, inputs=[block_input, chain.tensor])
