from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.spaces import Network, Space, get_space
from hwnas.spaces.nasnet import IDENTITY

SMALL = get_space("nasnet/small")


def reading(space: Space, network: Network, label: str, **values: int) -> list[str]:
    """Labels of the slots whose blocks the block of a slot reads, wires followed."""
    architecture = space.architecture(**values)
    standing = [slot.label for slot, block in zip(space.slots, space.slot_blocks(architecture), strict=True) if block]
    return [standing[source] for source in network.sources[standing.index(label)]]


def test_a_node_adds_what_it_was_told_to() -> None:
    values = {"normal_node3_inputs": 13, "normal_node3_left": 5, "normal_node3_right": IDENTITY}
    network = SMALL.network(SMALL.architecture(**values))
    assert reading(SMALL, network, "stage2.cell1.node3.left", **values) == ["stage2.cell1.input2"]
    # State 3 is the second node; its identity is a wire.
    assert reading(SMALL, network, "stage2.cell1.node3", **values) == [
        "stage2.cell1.node3.left",
        "stage2.cell1.node2",
    ]


def test_a_cell_reads_the_two_before_it_that_are_there() -> None:
    for depths, expected in (
        ({}, ["stage1.cell1.output", "stage1.cell2.output"]),
        ({"stage1_depth": 1}, ["stem.conv1", "stage1.cell1.output"]),
    ):
        network = SMALL.network(SMALL.architecture(**depths))
        inputs = [reading(SMALL, network, f"stage2.reduction.input{k}", **depths)[0] for k in (1, 2)]
        assert inputs == expected
    shallow = {"stage3_depth": 1}
    network = SMALL.network(SMALL.architecture(**shallow))
    assert reading(SMALL, network, "head", **shallow) == ["stage3.cell1.output"]


def test_only_what_reads_an_input_of_a_reduction_cell_halves_it() -> None:
    blocks = {pair: SMALL.network(SMALL.architecture(reduction_node3_inputs=pair)).blocks for pair in (1, 23)}
    strided = {pair: sum(b.op == "separable" and b.stride == 2 for b in found) for pair, found in blocks.items()}
    assert strided[1] - strided[23] == 2 * 2, "two operands in each of two reduction cells"


@pytest.mark.parametrize("preset", ["small", "imagenet"])
def test_cells_of_a_kind_are_alike(preset: str) -> None:
    """Whatever is chosen, all cells of a kind have the same operations; `Network` refuses what nobody reads."""
    space = get_space(f"nasnet/{preset}")
    for architecture in space.decode(space.sample(np.random.default_rng(0), 20)):
        space.network(architecture)
        operations: dict[str, list[str]] = {}
        for slot, block in zip(space.slots, space.slot_blocks(architecture), strict=True):
            *cell, node, side = ("", *slot.label.split("."))
            if block and len(cell) == 3:
                operations.setdefault(".".join(cell), []).append(f"{node}.{side} {block.op} {block.kernel}")
        cells: dict[str, set[tuple[str, ...]]] = {"cell": set(), "reduction": set()}
        for label, found in operations.items():
            cells["reduction" if "reduction" in label else "cell"].add(tuple(found))
        assert all(len(alike) <= 1 for alike in cells.values())


@given(st.integers(0, 2**32))
def test_sizes_follow_from_resolution_and_reductions(seed: int) -> None:
    architecture = SMALL.decode(SMALL.sample(np.random.default_rng(seed), 1))[0]
    blocks = SMALL.network(architecture).blocks
    assert blocks[-1].op == "head" and blocks[-1].in_channels == 3 * 32
    assert blocks[-1].in_height == architecture.resolution // 8


def test_a_cell_has_as_many_forms_as_choices_say() -> None:
    # Two depths to the power of three stages, pairs of inputs, and five operations at either side of three nodes.
    assert SMALL.count == 3 * 2**3 * (3 * 6 * 5**6) ** 2
