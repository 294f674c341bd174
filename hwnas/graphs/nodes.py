"""What a chain of blocks computes, as one list of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.spaces import BlockSpec
from hwnas.spaces.nodes import Chain, Node
from hwnas.spaces.operations import OPERATIONS

NETWORK_OUTPUT, BLOCK_OUTPUT = "logits", "output"


def node_list(specs: Sequence[BlockSpec], *, output: str = NETWORK_OUTPUT) -> list[Node]:
    """The operations of consecutive blocks, in an order in which they can be executed.

    Args:
        specs: at least one block; each takes the shape that the one before it gives.
        output: name of the last node's output.

    Raises:
        ValueError: there is no block, or a block does not fit the one before it.
    """
    if not specs:
        raise ValueError("a graph needs at least one block")
    first = specs[0]
    chain = Chain([first.in_channels, first.in_height, first.in_width])
    for number, spec in enumerate(specs):
        expected = [spec.in_channels, spec.in_height, spec.in_width]
        if chain.shape != expected:
            raise ValueError(f"block {number} ({spec.key}) takes {expected}, but gets {chain.shape}")
        chain.block = number
        OPERATIONS[spec.op].append(chain, spec)
    chain.nodes[-1]["output"] = output
    return chain.nodes
