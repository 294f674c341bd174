"""The sum of two feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain, Shape

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def add(chain: Chain, spec: BlockSpec) -> None:
    """Elementwise (``activation`` follows)."""
    chain.append("sum", "Add", chain.shape, inputs=[tensor for tensor, _ in chain.inputs])
    chain.activate("activation", spec.activation)


def two_inputs(spec: BlockSpec) -> list[Shape]:
    """Two maps of the size that the block states."""
    return [[spec.in_channels, spec.in_height, spec.in_width]] * 2
