"""The operations that blocks are made of; a new one is a new file here, one in ``hwnas.supernet.blocks``, and a line.

What an operation computes is stated once, as nodes; shapes, counts and graphs follow from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain, Shape
from hwnas.spaces.operations.adapt import adapt
from hwnas.spaces.operations.add import add, two_inputs
from hwnas.spaces.operations.average_pool import average_pool
from hwnas.spaces.operations.bottleneck import bottleneck
from hwnas.spaces.operations.concat import concat, equal_inputs
from hwnas.spaces.operations.conv import conv
from hwnas.spaces.operations.fire import fire
from hwnas.spaces.operations.fuse import fuse_coarser, fuse_finer, twice_with_finer, with_coarser, with_finer
from hwnas.spaces.operations.head import head
from hwnas.spaces.operations.max_pool import max_pool
from hwnas.spaces.operations.mbconv import mbconv
from hwnas.spaces.operations.predict import predict
from hwnas.spaces.operations.separable import separable, separable_conv

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def one_input(spec: BlockSpec) -> list[Shape]:
    """A feature map of the size that the block states."""
    return [[spec.in_channels, spec.in_height, spec.in_width]]


@dataclass(frozen=True, slots=True)
class Operation:
    """``append`` adds the nodes of a block to a chain; ``title`` names the operation to people.

    ``inputs`` gives the shapes of what a block takes; several are in ``chain.inputs`` when ``append`` is called.
    """

    title: str
    append: Callable[[Chain, BlockSpec], None]
    inputs: Callable[[BlockSpec], list[Shape]] = one_input


OPERATIONS: dict[str, Operation] = {
    "mbconv": Operation("MBConv", mbconv),
    "conv": Operation("Conv", conv),
    "head": Operation("Pool, classify", head),
    "bottleneck": Operation("Bottleneck", bottleneck),
    "max_pool": Operation("Max pool", max_pool),
    "fire": Operation("Fire", fire),
    "add": Operation("Add", add, two_inputs),
    "concat": Operation("Concatenate", concat, equal_inputs),
    "adapt": Operation("Adapt", adapt),
    "average_pool": Operation("Average pool", average_pool),
    "separable": Operation("Separable ×2", separable),
    "fuse_coarser": Operation("Fuse with coarser", fuse_coarser, with_coarser),
    "fuse_finer": Operation("Fuse with finer", fuse_finer, with_finer),
    "fuse_finer_twice": Operation("Fuse two with finer", fuse_finer, twice_with_finer),
    "separable_conv": Operation("Separable", separable_conv),
    "predict": Operation("Predict", predict),
}
"""By what ``BlockSpec.op`` says. New ones come last: latency models tell operations apart by their position."""
