"""Feature maps of one size, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain, Shape

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def concat(chain: Chain, spec: BlockSpec) -> None:
    """``out_channels / in_channels`` maps, each of ``in_channels`` (``activation`` follows)."""
    chain.concat("channels", [tensor for tensor, _ in chain.inputs], spec.out_channels)
    chain.activate("activation", spec.activation)


def equal_inputs(spec: BlockSpec) -> list[Shape]:
    """As many maps as give the output's channels together."""
    return [[spec.in_channels, spec.in_height, spec.in_width]] * (spec.out_channels // spec.in_channels)
