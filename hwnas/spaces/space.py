"""Search spaces: choices, which of them are active, and the blocks they stand for.

A set of architectures is a *genome array*, int8 of shape ``[n, len(space.choices)]``: entry ``[i, j]`` is the
index into ``space.choices[j].values``, or -1 where that choice is inactive.  Every operation works on whole
arrays, since a search looks at 10⁵ architectures a second; :class:`Architecture` is the readable single one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError
from hwnas.spaces.architecture import Architecture, canonical_id, choice_bytes
from hwnas.spaces.block import BlockSpec
from hwnas.spaces.network import IMAGES, NETWORK_OUTPUT, Network

Genomes = npt.NDArray[np.int8]
INACTIVE = -1
NORM_EPS = 1e-5
Task = Literal["classification", "detection"]
Metric = Literal["top-1", "mAP"]
Reads = Callable[[Mapping[str, int]], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Choice:
    """A thing to choose: ``values`` in ascending order of cost.

    It is active where the choice ``parent`` (itself always active) takes one of its values from index
    ``active_from`` on; always, if ``parent`` is None.
    """

    label: str
    values: tuple[int, ...]
    parent: str | None = None
    active_from: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a block: what stands there and what it reads are functions of the values of ``choices`` alone.

    ``build`` takes these values in order and returns the block, or None where the slot is empty.  An empty slot is a
    wire: it hands on what it reads first.

    ``reads`` takes the values of all active choices by label and returns the labels of the slots, all earlier ones,
    whose outputs are the block's inputs; None: the slot before this one, or the images.

    ``output`` names the output of the network that the slot gives; in a space without any there is ``logits``, of the
    last slot.

    ``shares`` names an earlier slot (or this one) whose convolutions' weights a supernet uses here too; norms are the
    slot's own.
    """

    label: str
    choices: tuple[str, ...]
    build: Callable[..., BlockSpec | None]
    reads: Reads | None = None
    output: str | None = None
    shares: str | None = None


class Space:
    """Everything that may be searched: a family with a preset.

    Args:
        family, preset: such as ``mobilenet_v3`` and ``small``.
        num_classes: outputs of the classifier.
        choices: parents before their children.
        slots: the network from input to output; every block is read by another one or an output, whatever is chosen.
        norm_eps: what its networks' batch norms add to a variance; it is in no block, since norms are folded away.
        task: what its networks do; detectors give outputs level by level (:mod:`hwnas.spaces.bifpn`).
    """

    def __init__(
        self,
        family: str,
        preset: str,
        num_classes: int,
        choices: Sequence[Choice],
        slots: Sequence[Slot],
        norm_eps: float = NORM_EPS,
        task: Task = "classification",
    ) -> None:
        self.family = family
        self.preset = preset
        self.num_classes = num_classes
        self.choices = tuple(choices)
        self.slots = tuple(slots)
        self.norm_eps = norm_eps
        self.task = task
        self._position = {choice.label: j for j, choice in enumerate(self.choices)}

    @property
    def name(self) -> str:
        """``family/preset``."""
        return f"{self.family}/{self.preset}"

    @property
    def metric(self) -> Metric:
        """What says how good a network is, as people write it."""
        return "top-1" if self.task == "classification" else "mAP"

    @property
    def metric_key(self) -> str:
        """The same in the names of recorded figures, such as ``validation_top1_largest``."""
        return self.metric.replace("-", "").lower()

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Input sizes in pixels, ascending."""
        return self.choices[self._position["resolution"]].values

    def position(self, label: str) -> int:
        """Column of a choice in a genome array."""
        return self._position[label]

    # --- single architectures -------------------------------------------------------------------------

    def architecture(self, **values: int) -> Architecture:
        """The architecture with these values (``_`` stands for ``.`` in labels); the rest is the largest."""
        genome = self.largest_genome[0].copy()
        for label, value in values.items():
            choice = next((c for c in self.choices if c.label.replace(".", "_") == label), None)
            if choice is None or value not in choice.values:
                raise UserError(f"Space {self.name} has no choice {label}={value}; see Space.choices for what it has.")
            genome[self._position[choice.label]] = choice.values.index(value)
        return self.decode(self.canonical(genome[None]))[0]

    @cached_property
    def largest(self) -> Architecture:
        """The largest value of every choice."""
        return self.decode(self.largest_genome)[0]

    @cached_property
    def smallest(self) -> Architecture:
        """The smallest value of every choice."""
        return self.decode(self.smallest_genome)[0]

    @cached_property
    def largest_genome(self) -> Genomes:
        """``largest`` as an array [1, choices]."""
        return self.canonical(self._sizes[None].astype(np.int8) - 1)

    @cached_property
    def smallest_genome(self) -> Genomes:
        """``smallest`` as an array [1, choices]."""
        return self.canonical(np.zeros((1, len(self.choices)), np.int8))

    def blocks(self, architecture: Architecture) -> tuple[BlockSpec, ...]:
        """The blocks of an architecture, from input to output."""
        return tuple(block for block in self.slot_blocks(architecture) if block is not None)

    def slot_blocks(self, architecture: Architecture) -> list[BlockSpec | None]:
        """The block of each slot, None where it is empty."""
        indices = self.block_indices(self.encode([architecture]))[0]
        return [self.distinct_blocks[i] if i >= 0 else None for i in indices]

    def network(self, architecture: Architecture) -> Network:
        """The blocks of an architecture, and what each of them reads."""
        return self.connected(architecture, self.slot_blocks(architecture))

    def connected(self, architecture: Architecture, slot_blocks: Sequence[BlockSpec | None]) -> Network:
        """:meth:`network` where :meth:`slot_blocks` is known."""
        values, given = dict(architecture.choices), {"": IMAGES}
        blocks: list[BlockSpec] = []
        sources: list[tuple[int, ...]] = []
        before = ""
        for slot, block in zip(self.slots, slot_blocks, strict=True):
            labels = (before,) if slot.reads is None else slot.reads(values)
            read = tuple(given[label] for label in labels)
            given[slot.label] = read[0] if block is None else len(blocks)
            if block is not None:
                blocks.append(block)
                sources.append(read)
            before = slot.label
        ends = {slot.output: slot.label for slot in self.slots if slot.output} or {NETWORK_OUTPUT: before}
        return Network(tuple(blocks), tuple(sources), tuple((name, given[label]) for name, label in ends.items()))

    def sharing(self, architecture: Architecture) -> dict[int, int]:
        """The blocks of an architecture that share convolutions: number of each, and of the block whose they are.

        See :attr:`Slot.shares`.
        """
        there = [slot for slot, block in zip(self.slots, self.slot_blocks(architecture), strict=True) if block]
        number = {slot.label: n for n, slot in enumerate(there)}
        return {n: number[slot.shares] for n, slot in enumerate(there) if slot.shares is not None}

    # --- arrays of architectures ----------------------------------------------------------------------

    def encode(self, architectures: Sequence[Architecture]) -> Genomes:
        """Genome array [n, choices] of some architectures.

        Raises:
            UserError: an architecture belongs to another space, or is not canonical and valid in this one.
        """
        genomes = np.full((len(architectures), len(self.choices)), INACTIVE, np.int8)
        for i, architecture in enumerate(architectures):
            if architecture.space != self.name:
                raise UserError(f"Architecture {architecture.id} is of space {architecture.space}, not {self.name}.")
            for label, value in architecture.choices:
                j = self._position.get(label)
                if j is None or value not in self.choices[j].values:
                    raise UserError(f"Architecture {architecture.id}: space {self.name} has no {label} = {value}.")
                genomes[i, j] = self.choices[j].values.index(value)
        wrong = np.flatnonzero(~self.valid(genomes))
        if wrong.size:
            raise UserError(
                f"Architecture {architectures[wrong[0]].id} is not canonical in {self.name}: choices of inactive "
                "blocks must be absent and all others present."
            )
        return genomes

    def decode(self, genomes: Genomes) -> list[Architecture]:
        """The architectures of a valid genome array."""
        return [
            Architecture(
                self.name,
                tuple((c.label, c.values[gene]) for c, gene in zip(self.choices, row, strict=True) if gene >= 0),
            )
            for row in genomes.tolist()
        ]

    def ids(self, genomes: Genomes) -> list[str]:
        """:attr:`Architecture.id` of every row."""
        pieces = self._id_pieces
        prefix = self.name.encode()
        return [canonical_id(prefix, b"".join(map(list.__getitem__, pieces, row))) for row in genomes.tolist()]

    def active(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which choices are active, [n, choices], by what their parents say."""
        parents = genomes[:, self._parent]
        return np.asarray((parents >= self._active_from) | (self._active_from == 0))

    def canonical(self, genomes: Genomes) -> Genomes:
        """The array with inactive choices set to -1."""
        return np.where(self.active(genomes), genomes, np.int8(INACTIVE))

    def valid(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which rows are canonical architectures of the space, [n]."""
        active = self.active(genomes)
        in_range = (genomes >= 0) & (genomes < self._sizes)
        return np.asarray(np.where(active, in_range, genomes == INACTIVE).all(axis=1))

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """``n`` random architectures: every active choice uniform over its values."""
        return self.canonical(self._any_genes(rng, n))

    def mutate(self, rng: np.random.Generator, genomes: Genomes, probability: float = 0.1) -> Genomes:
        """A child of every row: one active choice changed, every other one redrawn with ``probability``.

        Choices that become active are drawn anew.  A child always differs from its parent.
        """
        n = len(genomes)
        children = np.where(genomes >= 0, genomes, self._any_genes(rng, n))
        redrawn = rng.random(children.shape) < probability
        children = np.where(redrawn, self._any_genes(rng, n), children)
        changeable = (genomes >= 0) & (self._sizes > 1)
        forced = np.argmax(rng.random(genomes.shape) * changeable, axis=1)
        rows = np.arange(n)
        sizes = self._sizes[forced]
        shift = 1 + np.floor(rng.random(n) * np.maximum(sizes - 1, 1)).astype(np.int64)
        children[rows, forced] = (genomes[rows, forced] + shift) % sizes
        # The forced gene must still be active in the child: its parent choice is kept.
        guard = self._parent[forced]
        has_parent = self._active_from[forced] > 0
        children[rows[has_parent], guard[has_parent]] = genomes[rows[has_parent], guard[has_parent]]
        return self.canonical(children)

    def crossover(self, rng: np.random.Generator, mothers: Genomes, fathers: Genomes) -> Genomes:
        """A child of every pair: each choice from either parent, or from the one in which it is active."""
        from_mother = rng.random(mothers.shape) < 0.5
        first = np.where(from_mother, mothers, fathers)
        second = np.where(from_mother, fathers, mothers)
        children = np.where(first >= 0, first, second)
        children = np.where(children >= 0, children, self._any_genes(rng, len(mothers)))
        return self.canonical(children)

    def one_hot(self, genomes: Genomes) -> npt.NDArray[np.float32]:
        """Features [n, Σ values]: choices in order, values in order, inactive choices all zero."""
        encoded = np.zeros((len(genomes), self._one_hot_start[-1] + self._sizes[-1]), np.float32)
        rows, columns = np.nonzero(genomes >= 0)
        encoded[rows, self._one_hot_start[columns] + genomes[rows, columns]] = 1.0
        return encoded

    @cached_property
    def count(self) -> int:
        """Exact number of architectures."""
        total = 1
        for parent in (choice for choice in self.choices if choice.parent is None):
            children = [choice for choice in self.choices if choice.parent == parent.label]
            total *= sum(
                math.prod(len(child.values) for child in children if child.active_from <= index)
                for index in range(len(parent.values))
            )
        return total

    # --- blocks ---------------------------------------------------------------------------------------

    @property
    def distinct_blocks(self) -> tuple[BlockSpec, ...]:
        """Every block that occurs in some architecture; :meth:`block_indices` points into this."""
        return self._block_lookup[0]

    def block_indices(self, genomes: Genomes) -> npt.NDArray[np.int32]:
        """Which block stands in each slot, [n, slots]; -1 for an empty slot."""
        tables = self._block_lookup[1]
        indices = np.empty((len(genomes), len(self.slots)), np.int32)
        for s, (columns, strides, table) in enumerate(tables):
            # Index 0 of each axis of the table stands for "inactive".
            indices[:, s] = table[(genomes[:, columns].astype(np.intp) + 1) @ strides]
        return indices

    def block_sum(self, genomes: Genomes, per_block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Sum over the blocks of each architecture of a quantity given per distinct block, [n]."""
        padded = np.append(per_block, 0.0)
        return np.asarray(padded[self.block_indices(genomes)].sum(axis=1))

    def macs(self, genomes: Genomes) -> npt.NDArray[np.float64]:
        """Multiply-accumulates for one image, [n]."""
        return self.block_sum(genomes, self._per_block["macs"])

    def params(self, genomes: Genomes) -> npt.NDArray[np.float64]:
        """Trainable parameters, [n]."""
        return self.block_sum(genomes, self._per_block["params"])

    def weights(self, genomes: Genomes) -> npt.NDArray[np.float64]:
        """Constants of the exported networks, batch norms being folded, [n]."""
        return self.block_sum(genomes, self._per_block["weights"])

    def peak_activations(self, genomes: Genomes) -> npt.NDArray[np.float64]:
        """Most activations alive at once, for one image, [n]; see :attr:`Network.peak_activations`.

        While a block of a chain is computed, nothing else is alive; networks that branch are counted one by one.
        """
        if any(slot.reads for slot in self.slots):
            return np.array([self.network(each).peak_activations for each in self.decode(genomes)], np.float64)
        padded = np.append(self._per_block["peak_activations"], 0.0)
        return np.asarray(padded[self.block_indices(genomes)].max(axis=1))

    # --- private --------------------------------------------------------------------------------------

    @cached_property
    def _per_block(self) -> dict[str, npt.NDArray[np.float64]]:
        """What is counted of each distinct block, [blocks], by name; counting takes far longer than adding up."""
        names = ("macs", "params", "weights", "peak_activations")
        return {name: np.array([getattr(b, name) for b in self.distinct_blocks], np.float64) for name in names}

    @cached_property
    def _sizes(self) -> npt.NDArray[np.int64]:
        return np.array([len(choice.values) for choice in self.choices])

    @cached_property
    def _parent(self) -> npt.NDArray[np.int64]:
        """Column of each choice's parent; its own where it has none."""
        return np.array([self._position[choice.parent or choice.label] for choice in self.choices])

    @cached_property
    def _active_from(self) -> npt.NDArray[np.int64]:
        return np.array([choice.active_from if choice.parent else 0 for choice in self.choices])

    @cached_property
    def _one_hot_start(self) -> npt.NDArray[np.int64]:
        return np.cumsum(self._sizes) - self._sizes

    @cached_property
    def _id_pieces(self) -> list[list[bytes]]:
        """What each gene adds to the canonical hash; the last entry, reached by -1, is the inactive one."""
        return [[choice_bytes(c.label, value) for value in c.values] + [b""] for c in self.choices]

    def _any_genes(self, rng: np.random.Generator, n: int) -> Genomes:
        return (rng.random((n, len(self.choices))) * self._sizes).astype(np.int8)

    @cached_property
    def _block_lookup(
        self,
    ) -> tuple[tuple[BlockSpec, ...], list[tuple[list[int], npt.NDArray[np.intp], npt.NDArray[np.int32]]]]:
        """The distinct blocks, and for each slot the columns it depends on, their strides and its table."""
        number: dict[BlockSpec, int] = {}
        tables = []
        for slot in self.slots:
            columns = [self._position[label] for label in slot.choices]
            options = [(None, *self.choices[column].values) for column in columns]
            blocks = (None if None in values else slot.build(*values) for values in itertools.product(*options))
            entries = [INACTIVE if block is None else number.setdefault(block, len(number)) for block in blocks]
            shape = [len(values) for values in options]
            strides = np.array([math.prod(shape[k + 1 :]) for k in range(len(shape))], np.intp)
            tables.append((columns, strides, np.array(entries, np.int32)))
        return tuple(number), tables
