"""What is counted of a block, from the nodes that it stands for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from hwnas.spaces.nodes import Chain, Node, macs_of

_ALLOCATING = frozenset({"Conv", "Gemm", "GlobalAveragePool", "AveragePool", "MaxPool", "Concat", "Resize"})
"""Operators whose output needs a place of its own; all others write over an input that nobody reads after them."""


class Counts(NamedTuple):
    """Of one block, for one image; see the properties of :class:`hwnas.spaces.BlockSpec`."""

    macs: int
    params: int
    weights: int
    launches: int
    output_shape: tuple[int, ...]


def counts_of(chain: Chain) -> Counts:
    """Counts of the nodes of one block."""
    nodes = chain.nodes
    weights = sum(math.prod(shape) for node in nodes for shape in node["parameters"].values())
    norms = sum(node["parameters"]["bias"][0] for node in nodes if node["name"].endswith(".conv"))
    return Counts(
        macs=sum(map(macs_of, nodes)),
        params=weights + norms,
        weights=weights,
        launches=sum(node["op"] != "Flatten" for node in nodes),
        output_shape=tuple(chain.shape),
    )


def peak_of(nodes: Sequence[Node], given: Mapping[str, int], kept: Collection[str] = ()) -> int:
    """Most elements alive at once, node by node; a tensor lives until it was read for the last time.

    Args:
        given: elements of each input by its name.
        kept: tensors that live to the end.
    """
    last_read = {tensor: number for number, node in enumerate(nodes) for tensor in node["inputs"]}
    last_read |= dict.fromkeys(kept, len(nodes))
    alive, peak = dict(given), 0
    for number, node in enumerate(nodes):
        made = math.prod(node["shape"])
        in_place = node["op"] not in _ALLOCATING and any(last_read[tensor] == number for tensor in node["inputs"])
        peak = max(peak, sum(alive.values()) + (0 if in_place else made))
        alive = {tensor: elements for tensor, elements in alive.items() if last_read[tensor] > number}
        alive[node["output"]] = made
    return peak
