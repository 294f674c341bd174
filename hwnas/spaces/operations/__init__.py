"""The operations that blocks are made of; a new one is a new file here, one in ``hwnas.supernet.blocks``, and a line.

What an operation computes is stated once, as nodes; shapes, counts and graphs follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain
from hwnas.spaces.operations.bottleneck import bottleneck
from hwnas.spaces.operations.conv import conv
from hwnas.spaces.operations.fire import fire
from hwnas.spaces.operations.head import head
from hwnas.spaces.operations.max_pool import max_pool
from hwnas.spaces.operations.mbconv import mbconv

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


@dataclass(frozen=True, slots=True)
class Operation:
    """``append`` adds the nodes of a block to a chain; ``title`` names the operation to people."""

    title: str
    append: Callable[[Chain, BlockSpec], None]


OPERATIONS: dict[str, Operation] = {
    "mbconv": Operation("MBConv", mbconv),
    "conv": Operation("Conv", conv),
    "head": Operation("Pool, classify", head),
    "bottleneck": Operation("Bottleneck", bottleneck),
    "max_pool": Operation("Max pool", max_pool),
    "fire": Operation("Fire", fire),
}
"""By what ``BlockSpec.op`` says. New ones come last: latency models tell operations apart by their position."""
