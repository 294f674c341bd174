"""A convolution with batch norm and activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def conv(chain: Chain, spec: BlockSpec) -> None:
    """Convolution, batch norm, activation, plus the input if ``skip`` (``mid_channels`` 0)."""
    block_input = chain.tensor
    chain.conv("body.conv", spec.out_channels, spec.kernel, spec.stride, padding=spec.padding)
    chain.activate("activation", spec.activation)
    if spec.skip:
        chain.append("skip", "Add", chain.shape, inputs=[block_input, chain.tensor])
