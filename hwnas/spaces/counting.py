"""What is counted of a block, from the nodes that it stands for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hwnas.spaces.nodes import Chain, Node, macs_of

_ALLOCATING = frozenset({"Conv", "Gemm", "GlobalAveragePool", "AveragePool", "MaxPool", "Concat"})
"""Operators whose output needs a place of its own; all others write over an input."""


class Counts(NamedTuple):
    """Of one block, for one image; see the properties of :class:`hwnas.spaces.BlockSpec`."""

    macs: int
    params: int
    weights: int
    peak_activations: int
    launches: int


def counts_of(chain: Chain, given: int) -> Counts:
    """Counts of a chain's nodes.

    Args:
        chain: of one block.
        given: elements of the block's input.
    """
    nodes = chain.nodes
    weights = sum(math.prod(shape) for node in nodes for shape in node["parameters"].values())
    norms = sum(node["parameters"]["bias"][0] for node in nodes if node["name"].endswith(".conv"))
    return Counts(
        macs=sum(map(macs_of, nodes)),
        params=weights + norms,
        weights=weights,
        peak_activations=_peak(nodes, given),
        launches=sum(node["op"] != "Flatten" for node in nodes),
    )


def _peak(nodes: Sequence[Node], given: int) -> int:
    """Most elements alive at once, node by node; a tensor lives until it was read for the last time."""
    last_read = {tensor: number for number, node in enumerate(nodes) for tensor in node["inputs"]}
    alive, peak = {nodes[0]["inputs"][0]: given}, 0
    for number, node in enumerate(nodes):
        made = math.prod(node["shape"])
        peak = max(peak, sum(alive.values()) + (made if node["op"] in _ALLOCATING else 0))
        alive = {tensor: elements for tensor, elements in alive.items() if last_read[tensor] > number}
        alive[node["output"]] = made
    return peak
