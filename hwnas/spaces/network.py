"""Blocks and how they are connected; a chain is the network in which each block reads the one before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hwnas.spaces.block import BlockSpec
from hwnas.spaces.nodes import Chain, Node, Shape, graph_input
from hwnas.spaces.operations import OPERATIONS

NETWORK_OUTPUT, BLOCK_OUTPUT = "logits", "output"
IMAGES = -1
"""The source that stands for a network's first input."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Network:
    """What an architecture computes, without weights.

    Attributes:
        blocks: in an order in which they can be executed.
        sources: what each block reads, in the order of its inputs: numbers of earlier blocks, and -1, -2, … for the
            network's first, second, … input.
        outputs: name and block of each output of the network.

    Raises:
        ValueError: there is no block; one reads a later block, or a tensor of another shape than it takes; nobody
            reads a block.
    """

    blocks: tuple[BlockSpec, ...]
    sources: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ValueError("a network needs at least one block")
        given = self._input_shapes()
        for number, (spec, sources) in enumerate(zip(self.blocks, self.sources, strict=True)):
            if any(source not in given for source in sources):
                raise ValueError(f"block {number} ({spec.key}) reads blocks {list(sources)}, which come no earlier")
            found = [given[source] for source in sources]
            if found != spec.input_shapes:
                raise ValueError(
                    f"block {number} ({spec.key}) takes {_said(spec.input_shapes)}, but gets {_said(found)}"
                )
            given[number] = spec.output_shape
        unread = set(range(len(self.blocks))).difference(*self.sources, (number for _, number in self.outputs))
        if unread:
            raise ValueError(f"nobody reads block {min(unread)} ({self.blocks[min(unread)].key})")

    @classmethod
    def of(cls, network: Network | Sequence[BlockSpec]) -> Network:
        """A network itself, or blocks as a chain that gives ``logits``."""
        if isinstance(network, Network):
            return network
        sources = tuple((number - 1,) for number in range(len(network)))
        return cls(tuple(network), sources, ((NETWORK_OUTPUT, len(network) - 1),))

    @classmethod
    def of_block(cls, spec: BlockSpec) -> Network:
        """One block alone, which reads inputs of the network and gives ``output``."""
        return cls((spec,), (tuple(~k for k in range(len(spec.input_shapes))),), ((BLOCK_OUTPUT, 0),))

    @property
    def inputs(self) -> dict[str, Shape]:
        """Shapes of the network's inputs by name, without the batch dimension."""
        shapes = self._input_shapes()
        return {graph_input(~source): shapes[source] for source in sorted(shapes, reverse=True)}

    @property
    def nodes(self) -> list[Node]:
        """What the network computes, in an order in which it can be executed, and nothing of it twice."""
        chain, names = Chain(), {number: name for name, number in self.outputs}
        given = {source: (graph_input(~source), shape) for source, shape in self._input_shapes().items()}
        for number, (spec, sources) in enumerate(zip(self.blocks, self.sources, strict=True)):
            chain.begin(number, [given[source] for source in sources])
            OPERATIONS[spec.op].append(chain, spec)
            chain.nodes[-1]["output"] = tensor = names.get(number, chain.tensor)
            given[number] = tensor, chain.shape
        return _merged(chain.nodes, frozenset(names.values()))

    @property
    def released(self) -> list[tuple[int, ...]]:
        """Of each block, those of its sources that nobody reads any more once it is computed."""
        kept = {number for _, number in self.outputs}
        last = {source: number for number, sources in enumerate(self.sources) for source in sources}
        return [
            tuple(source for source in dict.fromkeys(sources) if last[source] == number and source not in kept)
            for number, sources in enumerate(self.sources)
        ]

    @property
    def peak_activations(self) -> int:
        """Most activations alive at once, for one image; see :attr:`BlockSpec.peak_activations`.

        Beside what a block itself needs, what earlier blocks gave is alive until it was read for the last time.
        """
        alive = {source: math.prod(shape) for source, shape in self._input_shapes().items()}
        peak = 0
        for number, (spec, sources, released) in enumerate(zip(self.blocks, self.sources, self.released, strict=True)):
            aside = sum(alive.values()) - sum(alive[source] for source in sources)
            kept = tuple(place for place, source in enumerate(sources) if source not in released)
            peak = max(peak, aside + spec.peak_with_kept(kept))
            for source in released:
                del alive[source]
            alive[number] = math.prod(spec.output_shape)
        return peak

    def run(self, inputs: Sequence[Value], compute: Callable[[int, list[Value]], Value]) -> dict[str, Value]:
        """Compute block by block and let go of what nobody reads any more.

        Args:
            inputs: of the network.
            compute: takes a block's number and its inputs, and gives its output.

        Returns:
            The network's outputs by name.
        """
        values: dict[int, Value] = {~k: value for k, value in enumerate(inputs)}
        for number, (sources, released) in enumerate(zip(self.sources, self.released, strict=True)):
            taken = [values[source] for source in sources]
            for source in released:
                del values[source]
            values[number] = compute(number, taken)
        return {name: values[number] for name, number in self.outputs}

    def _input_shapes(self) -> dict[int, Shape]:
        """Shapes of the network's inputs by their number as a source."""
        return {
            source: shape
            for spec, sources in zip(self.blocks, self.sources, strict=True)
            for source, shape in zip(sources, spec.input_shapes, strict=False)
            if source < 0
        }


def _merged(nodes: Sequence[Node], outputs: frozenset[str]) -> list[Node]:
    """Without those that compute what an earlier one does, as torch's exporter and runtimes merge them.

    Such nodes have no weights; where two blocks rectify or pool the same map, for example.
    """
    kept: list[Node] = []
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for node in nodes:
        node["inputs"] = [same.get(tensor, tensor) for tensor in node["inputs"]]
        told = repr((node["op"], node["inputs"], node["attributes"]))
        if node["parameters"] or node["output"] in outputs or told not in first:
            kept.append(node)
            if not node["parameters"]:
                first.setdefault(told, node["output"])
        else:
            same[node["output"]] = first[told]
    return kept


def _said(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes))
