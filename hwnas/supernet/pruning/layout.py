"""Which channels of a network belong together: what one convolution writes, others read, and sums tie.

A block has axes: ``in`` and ``out`` are its feature maps, the others lie inside it; each of its convolutions reads one
and writes one.  Where one axis is another's (a block's output and the next one's input, the two sides of a skip
connection) their channels can only go together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hwnas.errors import UserError
from hwnas.spaces import BlockSpec, Network

Axis = tuple[int, str]
"""Number of the block in the network, name of the axis in the block."""

LAYERS: dict[str, dict[str, tuple[str, str | None]]] = {
    "conv": {"body": ("out", "in")},
    "mbconv": {
        "expand": ("mid", "in"),
        "depthwise": ("mid", None),
        "se.reduce": ("squeezed", "mid"),
        "se.expand": ("mid", "squeezed"),
        "project": ("out", "mid"),
    },
    "bottleneck": {
        "reduce": ("mid", "in"),
        "filter": ("inner", "mid"),
        "widen": ("out", "inner"),
        "shortcut": ("out", "in"),
    },
    "max_pool": {},
    "head": {"mix": ("mid", "in"), "classifier": ("classes", "mid")},
}
"""By operation, of the modules with weights in its plain block: the axis that each writes and the one that it reads.

A depthwise convolution reads no other channels than it writes.
"""
WIDTHS = {"in": "in_channels", "mid": "mid_channels", "inner": "mid_channels", "out": "out_channels"}
"""The field of a block that says how wide an axis is; the squeeze of an attention is as wide as follows from it."""


@dataclass(frozen=True, slots=True)
class Group:
    """What becomes narrower together.

    Attributes:
        width: channels.
        sets: numbers of the sets of axes (:attr:`Layout.sets`) of this width; each keeps channels of its own.
        fields: the widths of blocks that this one is: number of the block, name of the field.
    """

    width: int
    sets: tuple[int, ...]
    fields: tuple[tuple[int, str], ...]


class Layout:
    """The channels of a network.

    Attributes:
        sets: of axes that are tied.

    Raises:
        UserError: it is not known how the channels of an operation belong together.
    """

    def __init__(self, network: Network) -> None:
        unknown = sorted({block.op for block in network.blocks} - LAYERS.keys())
        if unknown:
            raise UserError(f"Blocks of kind {', '.join(unknown)} cannot be pruned; choose an architecture without.")
        self.network = network
        self.sets = _tied(network)

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """The blocks whose channels these are."""
        return self.network.blocks

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The widths that may become smaller; those of images and of classes may not."""
        numbers: dict[tuple[tuple[int, str], ...], list[int]] = {}
        for number, axes in enumerate(self.sets):
            fields = {(block, WIDTHS[name]) for block, name in axes if name in WIDTHS}
            # A head without features of its own has no such width.
            present = tuple(sorted(field for field in fields if self._width(field)))
            if present and (0, "in") not in axes:
                numbers.setdefault(present, []).append(number)
        return tuple(Group(self._width(fields[0]), tuple(sets), fields) for fields, sets in numbers.items())

    @cached_property
    def set_of(self) -> dict[Axis, int]:
        """The number of the set that each axis is in."""
        return {axis: number for number, axes in enumerate(self.sets) for axis in axes}

    def narrowed(self, widths: Sequence[int]) -> Network:
        """The network with other widths, one for each group."""
        changes: list[dict[str, int]] = [{} for _ in self.blocks]
        for group, width in zip(self.groups, widths, strict=True):
            for block, field in group.fields:
                changes[block][field] = width
        blocks = (replace(block, **change) for block, change in zip(self.blocks, changes, strict=True))  # type: ignore[arg-type]
        return replace(self.network, blocks=tuple(blocks))

    def layers(self) -> Iterator[tuple[str, int, int | None]]:
        """Of every layer that the network may have: its path, the set that it writes and the one that it reads."""
        for number, block in enumerate(self.blocks):
            for path, (written, read) in LAYERS[block.op].items():
                reads = None if read is None else self.set_of[number, read]
                yield f"{number}.{path}", self.set_of[number, written], reads

    def _width(self, field: tuple[int, str]) -> int:
        return int(getattr(self.blocks[field[0]], field[1]))


def _tied(network: Network) -> tuple[frozenset[Axis], ...]:
    """Every axis of the network, in sets of those that are tied."""
    sets = {axis: frozenset({axis}) for number, block in enumerate(network.blocks) for axis in _axes(number, block)}
    for one, other in _ties(network):
        union = sets[one] | sets[other]
        sets |= dict.fromkeys(union, union)
    return tuple(dict.fromkeys(sets.values()))


def _axes(number: int, block: BlockSpec) -> Iterator[Axis]:
    inside = {name for layer in LAYERS[block.op].values() for name in layer if name is not None}
    ends = {"in"} if block.classifies else {"in", "out"}
    yield from ((number, name) for name in sorted(inside | ends))


def _ties(network: Network) -> Iterator[tuple[Axis, Axis]]:
    for number, (block, sources) in enumerate(zip(network.blocks, network.sources, strict=True)):
        yield from (((source, "out"), (number, "in")) for source in sources if source >= 0)
        if block.skip or block.op == "max_pool":
            yield (number, "in"), (number, "out")
        if (block.op == "mbconv" and not block.expands) or (block.classifies and not block.mid_channels):
            yield (number, "in"), (number, "mid")
