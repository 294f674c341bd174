"""What blocks compute, as one list of nodes."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.spaces import BlockSpec, Network
from hwnas.spaces.network import BLOCK_OUTPUT, NETWORK_OUTPUT
from hwnas.spaces.nodes import Node

__all__ = ["BLOCK_OUTPUT", "NETWORK_OUTPUT", "node_list"]


def node_list(network: Network | Sequence[BlockSpec]) -> list[Node]:
    """The operations of a network, or of blocks that form a chain, in an order in which they can be executed.

    Raises:
        ValueError: there is no block, or a block does not fit the one before it.
    """
    return Network.of(network).nodes
