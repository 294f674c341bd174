"""A cell space: networks of two cells whose operations and connections are searched.

A normal cell keeps the size of its feature maps, a reduction cell halves it; each is searched once and stands at every
place of its kind (Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", Sec. 3).  A
cell reads the outputs of the two cells before it, its first two states.  Each of its nodes adds an operation applied to
one state and one applied to another, and is a state for the nodes after it; the cell gives all nodes, concatenated.
That a node reads two *different* states, and that all nodes are given, is as in DARTS (Liu et al. 2019, Sec. 2), as
are the order of ReLU, convolution and norm, separable convolutions applied twice (Sec. 3.1) and the stem for ImageNet:
so no node and no cell is ever computed for nothing.  How many normal cells a stage has is elastic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from hwnas.spaces.block import BlockSpec
from hwnas.spaces.family import Family, always, reduced
from hwnas.spaces.space import Choice, Slot

IDENTITY, AVERAGE_POOL, MAX_POOL = 0, 1, 2
"""What a choice of an operation may say; a greater value is the kernel of a separable convolution."""
POOL_KERNEL = 3

Values = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one such space from another; widths are in channels, resolutions in pixels.

    All strides divide each resolution, so that every pool covers its input.
    """

    stem_widths: tuple[int, ...]
    """Of the stem's convolutions, each with stride 2."""
    widths: tuple[int, ...]
    """Of the states in each stage's cells; all stages but the first begin with a reduction cell."""
    depths: tuple[int, ...]
    """Normal cells of a stage."""
    nodes: int
    kernels: tuple[int, ...]
    """Of the separable convolutions."""
    resolutions: tuple[int, ...]
    num_classes: int


PRESETS: dict[str, Preset] = {
    # The mobile setting of DARTS: 14 cells of 48 channels at first.
    "imagenet": Preset(
        stem_widths=(24, 48, 48),
        widths=(48, 96, 192),
        depths=(2, 3, 4),
        nodes=4,
        kernels=(3, 5, 7),
        resolutions=(128, 160, 192, 224),
        num_classes=1000,
    ),
    # For 32-64 px: few thin cells, to train on a CPU.
    "small": Preset(
        stem_widths=(24,),
        widths=(8, 16, 32),
        depths=(1, 2),
        nodes=3,
        kernels=(3, 5),
        resolutions=(32, 48, 64),
        num_classes=10,
    ),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A place for a cell; ``number`` counts the normal cells of a stage, 0 is its reduction cell."""

    stage: int
    number: int
    width: int
    reduction: int
    """Pixels of an image by a pixel of the cell's states."""

    @property
    def label(self) -> str:
        return f"stage{self.stage}.{f'cell{self.number}' if self.number else 'reduction'}"

    @property
    def kind(self) -> str:
        """Which cell stands there."""
        return "normal" if self.number else "reduction"

    @property
    def stride(self) -> int:
        return 1 if self.number else 2

    @property
    def depth(self) -> str:
        """The choice of its stage's depth."""
        return f"stage{self.stage}.depth"

    def stands(self, values: Values) -> bool:
        return self.number <= values[self.depth]


@dataclass(frozen=True, slots=True)
class State:
    """What a cell or the stem gives."""

    label: str
    channels: int
    reduction: int


def choices(p: Preset) -> list[Choice]:
    """Resolution, depths, and of both cells each node's inputs and operations.

    ``inputs`` of a node are its two states as decimal digits: 12 are the cell before and the first node.  The first
    node has no choice of them.
    """
    found = [Choice("resolution", p.resolutions)]
    found += [Choice(f"stage{s}.depth", p.depths) for s in range(1, len(p.widths) + 1)]
    # Where a map is halved the identity is a convolution, and costs more than a pool.
    plain = {"normal": (IDENTITY, AVERAGE_POOL, MAX_POOL), "reduction": (AVERAGE_POOL, MAX_POOL, IDENTITY)}
    for (kind, operations), node in itertools.product(plain.items(), range(1, p.nodes + 1)):
        if node > 1:
            pairs = itertools.combinations(range(node + 1), 2)
            found.append(Choice(f"{kind}.node{node}.inputs", tuple(10 * a + b for a, b in pairs)))
        found += [Choice(f"{kind}.node{node}.{side}", (*operations, *p.kernels)) for side in ("left", "right")]
    return found


def slots(p: Preset, num_classes: int) -> list[Slot]:
    """The network from stem to head."""
    found, cells = list(_stem(p)), list(_cells(p))
    for k, cell in enumerate(cells):
        found += _cell_slots(p, cell, partial(_before, p, cells[:k]))
    head = partial(_head, p.nodes * cells[-1].width, cells[-1].reduction, num_classes)
    return [*found, Slot("head", ("resolution",), head, partial(_state_read, partial(_before, p, cells), 1))]


def _stem(p: Preset) -> Iterator[Slot]:
    channels = 3
    for number, width in enumerate(p.stem_widths):
        yield Slot(f"stem.conv{number + 1}", ("resolution",), partial(_strided, channels, width, 2**number))
        channels = width


def _cells(p: Preset) -> Iterator[Cell]:
    reduction = 2 ** len(p.stem_widths)
    for s, width in enumerate(p.widths, start=1):
        if s > 1:
            yield Cell(s, 0, width, reduction)
            reduction *= 2
        yield from (Cell(s, number, width, reduction) for number in range(1, max(p.depths) + 1))


def _before(p: Preset, cells: Sequence[Cell], values: Values) -> list[State]:
    """What the last two of ``cells`` that stand give, the later one last; the stem where there are none."""
    stem = State(f"stem.conv{len(p.stem_widths)}", p.stem_widths[-1], 2 ** len(p.stem_widths))
    given = (
        State(f"{cell.label}.output", p.nodes * cell.width, cell.reduction * cell.stride)
        for cell in reversed(cells)
        if cell.stands(values)
    )
    last, before_last, *_ = *itertools.islice(given, 2), stem, stem
    return [before_last, last]


def _cell_slots(p: Preset, cell: Cell, before: Callable[[Values], list[State]]) -> Iterator[Slot]:
    """Both inputs brought to the cell's size and width, the nodes, and their concatenation."""
    sized = ("resolution", cell.depth)
    # The first two cells of a stage read cells of the one before it.
    depths = (*sized, f"stage{cell.stage - 1}.depth") if cell.stage > 1 and cell.number < 2 else sized
    states = [f"{cell.label}.input{number}" for number in (1, 2)]
    for number, label in enumerate(tuple(states)):
        build = partial(_named, depths, partial(_input, cell, before, number))
        yield Slot(label, depths, build, partial(_state_read, before, number))
    for node in range(1, p.nodes + 1):
        label, chosen = f"{cell.label}.node{node}", f"{cell.kind}.node{node}"
        for place, side in enumerate(("left", "right")):
            # What reads an input of a reduction cell halves it.
            inputs = (f"{chosen}.inputs",) if cell.stride > 1 and node > 1 else ()
            deciding = (*sized, f"{chosen}.{side}", *inputs)
            build = partial(_named, deciding, partial(_operation, cell, chosen, side, place))
            yield Slot(f"{label}.{side}", deciding, build, partial(_operand_read, tuple(states), chosen, place))
        added = partial(_named, sized, partial(_sum, cell))
        yield Slot(label, sized, added, always(f"{label}.left", f"{label}.right"))
        states.append(label)
    output = partial(_named, sized, partial(_output, cell, p.nodes))
    yield Slot(f"{cell.label}.output", sized, output, always(*states[2:]))


# --- what a slot reads ----------------------------------------------------------------------------------------


def _state_read(before: Callable[[Values], list[State]], number: int, values: Values) -> list[str]:
    return [before(values)[number].label]


def _operand_read(states: tuple[str, ...], node: str, place: int, values: Values) -> list[str]:
    return [states[_operands(node, values)[place]]]


def _operands(node: str, values: Values) -> tuple[int, int]:
    """The numbers of the states that a node reads."""
    return divmod(values.get(f"{node}.inputs", 1), 10)


# --- what stands in a slot ------------------------------------------------------------------------------------


def _named(labels: tuple[str, ...], build: Callable[[Values], BlockSpec | None], *values: int) -> BlockSpec | None:
    """A block from the values of its slot's choices by label."""
    return build(dict(zip(labels, values, strict=True)))


def _input(cell: Cell, before: Callable[[Values], list[State]], number: int, values: Values) -> BlockSpec | None:
    if not cell.stands(values):
        return None
    state = before(values)[number]
    size = reduced(values["resolution"], state.reduction)
    stride = cell.reduction // state.reduction
    return BlockSpec("adapt", state.channels, size, size, cell.width, stride=stride, activation="none")


def _operation(cell: Cell, node: str, side: str, place: int, values: Values) -> BlockSpec | None:
    if not cell.stands(values):
        return None
    halves = cell.stride > 1 and _operands(node, values)[place] < 2
    stride, operation, width = 2 if halves else 1, values[f"{node}.{side}"], cell.width
    size = reduced(values["resolution"], cell.reduction if halves else cell.reduction * cell.stride)
    if operation == IDENTITY:
        return BlockSpec("adapt", width, size, size, width, stride=stride, activation="none") if halves else None
    op = {AVERAGE_POOL: "average_pool", MAX_POOL: "max_pool"}.get(operation)
    if op:
        return BlockSpec(op, width, size, size, width, kernel=POOL_KERNEL, stride=stride, activation="none")
    return BlockSpec("separable", width, size, size, width, kernel=operation, stride=stride)


def _sum(cell: Cell, values: Values) -> BlockSpec | None:
    if not cell.stands(values):
        return None
    size = reduced(values["resolution"], cell.reduction * cell.stride)
    return BlockSpec("add", cell.width, size, size, cell.width, activation="none")


def _output(cell: Cell, nodes: int, values: Values) -> BlockSpec | None:
    """Rectified here, once, since whoever reads a cell would do so first."""
    if not cell.stands(values):
        return None
    size = reduced(values["resolution"], cell.reduction * cell.stride)
    return BlockSpec("concat", cell.width, size, size, nodes * cell.width)


def _strided(channels: int, width: int, reduction: int, resolution: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec("conv", channels, size, size, width, kernel=3, stride=2)


def _head(channels: int, reduction: int, num_classes: int, resolution: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec("head", channels, size, size, num_classes, activation="none")


FAMILY = Family("nasnet", PRESETS, choices, slots)
