"""Which channels of a network belong together: what one convolution writes, others read, and sums tie.

Channels that the same layers write and read form a set.  What a layer writes or reads is one set, or several in a row,
as behind a concatenation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hwnas.errors import UserError
from hwnas.spaces import BlockSpec, Network
from hwnas.supernet.pruning.partition import Partition
from hwnas.supernet.pruning.trace import INNER_WIDTHS, Channels, Field, Trace

Axis = tuple[int, str]
"""Number of a block and the path in it of a layer, for what that writes; ``out`` for what the block gives."""


@dataclass(frozen=True, slots=True)
class Group:
    """What becomes narrower together.

    Attributes:
        width: channels.
        sets: numbers of the sets of this width; each keeps channels of its own.
        fields: the widths of blocks that this one is, or is a part of: number of the block, name of the field.
    """

    width: int
    sets: tuple[int, ...]
    fields: tuple[Field, ...]


class Layout:
    """The channels of a network.

    Args:
        network: its blocks and how they are connected.
        sharing: as of :meth:`hwnas.spaces.Space.sharing`; what has the same weights loses the same channels.

    Attributes:
        parts: by number of a set, the sets that it is in a row; one that is not composed is its own only part.
        widths: by number of a set, its channels.
        groups: the widths that may become smaller; those of images and of what the network gives may not.

    Raises:
        UserError: it is not known how the channels of an operation belong together.
    """

    def __init__(self, network: Network, sharing: Mapping[int, int] | None = None) -> None:
        unknown = sorted({block.op for block in network.blocks} - INNER_WIDTHS.keys())
        if unknown:
            raise UserError(f"Blocks of kind {', '.join(unknown)} cannot be pruned; choose a network without them.")
        self.network = network
        trace = Trace(network, sharing or {})
        partition = Partition(trace)
        numbers: dict[tuple[int, ...], int] = {(number,): number for number in range(len(partition.widths))}

        def number_of(channels: Channels) -> int:
            return numbers.setdefault(partition.parts(channels), len(numbers))

        self._layers = [
            (path, number_of(written), None if read is None else number_of(read))
            for path, written, read in trace.layers
        ]
        self._fields = {field: number_of(maps[0]) for field, maps in trace.widths.items()}
        self.parts = tuple(numbers)
        self.widths = tuple(self._total(number, partition.widths) for number in range(len(self.parts)))
        fixed = {part for channels in trace.ends for part in partition.parts(channels)}
        self.groups = tuple(self._groups(partition.kinds, fixed))

    @property
    def blocks(self) -> tuple[BlockSpec, ...]:
        """The blocks whose channels these are."""
        return self.network.blocks

    @cached_property
    def set_of(self) -> dict[Axis, int]:
        """The number of the set that each axis is."""
        found = {(block, "out"): number for (block, field), number in self._fields.items() if field == "out_channels"}
        for path, written, _ in self._layers:
            block, _, layer = path.partition(".")
            found[int(block), layer] = written
        return found

    def layers(self) -> Iterator[tuple[str, int, int | None]]:
        """Of every layer with weights: its path, the set that it writes and the one that it reads.

        A depthwise convolution reads no other channels than it writes: None.
        """
        yield from self._layers

    def narrowed(self, widths: Sequence[int]) -> Network:
        """The network with other widths, one for each group."""
        changes: list[dict[str, int]] = [{} for _ in self.blocks]
        alone = self._alone(widths)
        for (block, field), number in self._fields.items():
            changes[block][field] = self._total(number, alone)
        blocks = (replace(block, **change) for block, change in zip(self.blocks, changes, strict=True))  # type: ignore[arg-type]
        return replace(self.network, blocks=tuple(blocks))

    def keeps_expansions(self, widths: Sequence[int]) -> bool:
        """Whether each block that expands its input still does so with other widths, one for each group."""
        alone = self._alone(widths)
        return all(self._total(ins, alone) != self._total(mid, alone) for ins, mid in self._expanding)

    @cached_property
    def _expanding(self) -> list[tuple[int, int]]:
        """Input and inner channels of the blocks that expand."""
        return [
            (self._fields[number, "in_channels"], self._fields[number, "mid_channels"])
            for number, block in enumerate(self.blocks)
            if block.expands
        ]

    def _alone(self, widths: Sequence[int]) -> list[int]:
        """The widths of the sets that are not composed, given those of the groups."""
        found = list(self.widths)
        for group, width in zip(self.groups, widths, strict=True):
            for number in group.sets:
                found[number] = width
        return found

    def _total(self, number: int, alone: Sequence[int]) -> int:
        return sum(alone[part] for part in self.parts[number])

    def _groups(self, kinds: Sequence[int], fixed: set[int]) -> Iterator[Group]:
        of_kind: defaultdict[int, list[int]] = defaultdict(list)
        for number, kind in enumerate(kinds):
            of_kind[kind].append(number)
        for sets in of_kind.values():
            fields = [field for field, number in self._fields.items() if not set(sets).isdisjoint(self.parts[number])]
            if fields and fixed.isdisjoint(sets):
                yield Group(self.widths[sets[0]], tuple(sets), tuple(sorted(fields)))
