from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.spaces import BlockSpec, Network, get_space
from hwnas.spaces.counting import peak_of
from tests.branching import CONV, IDENTITY, LEFT, STEM, branching_space

SPACE = branching_space()
CONVOLUTION = BlockSpec("conv", 8, 4, 4, 8)
SUM = BlockSpec("add", 8, 4, 4, 8)


def made(*blocks: BlockSpec, sources: list[tuple[int, ...]], last: int | None = None) -> Network:
    return Network(blocks, tuple(sources), (("y", len(blocks) - 1 if last is None else last),))


def test_what_is_read_is_what_was_chosen() -> None:
    branched = SPACE.network(SPACE.architecture(left_operation=CONV, right_source=STEM))
    assert [spec.op for spec in branched.blocks] == ["conv", "conv", "bottleneck", "add", "concat", "conv", "head"]
    assert branched.sources == ((-1,), (0,), (0,), (2, 1), (0, 3, 1), (4,), (4,))
    assert branched.outputs == (("features", 5), ("logits", 6))
    one_after_the_other = SPACE.network(SPACE.architecture(left_operation=CONV, right_source=LEFT))
    assert one_after_the_other.sources[2] == (1,)


def test_an_empty_slot_is_a_wire() -> None:
    wired = SPACE.network(SPACE.architecture(left_operation=IDENTITY, right_source=LEFT))
    assert wired.sources == ((-1,), (0,), (1, 0), (0, 2, 0), (3,), (3,))


@pytest.mark.parametrize("name", ["mobilenet_v3/small", "resnet/small"])
def test_a_chain_reads_block_by_block(name: str) -> None:
    space = get_space(name)
    architecture = space.decode(space.sample(np.random.default_rng(0), 1))[0]
    network = space.network(architecture)
    assert network.blocks == space.blocks(architecture)
    assert network == Network.of(space.blocks(architecture))
    assert Network.of(network) is network
    assert network.outputs == (("logits", len(network.blocks) - 1),)


@given(st.integers(0, 2**32))
def test_peak_activations_are_those_of_all_nodes_one_after_the_other(seed: int) -> None:
    for space in (SPACE, get_space("resnet/small")):
        genome = space.sample(np.random.default_rng(seed), 1)
        network = space.network(space.decode(genome)[0])
        given = {name: int(np.prod(shape)) for name, shape in network.inputs.items()}
        expected = peak_of(network.nodes, given, kept=[name for name, _ in network.outputs])
        assert space.peak_activations(genome)[0] == network.peak_activations == expected


def test_what_is_read_later_takes_room() -> None:
    elements = 8 * 4 * 4
    chain = Network.of([CONVOLUTION] * 3)
    assert chain.peak_activations == 2 * elements
    assert made(*[CONVOLUTION] * 3, SUM, sources=[(-1,), (0,), (1,), (0, 2)]).peak_activations == 3 * elements


def test_a_run_lets_go_of_what_nobody_reads_any_more() -> None:
    network = made(*[CONVOLUTION] * 3, SUM, sources=[(-1,), (0,), (1,), (0, 2)])
    assert network.released == [(-1,), (), (1,), (0, 2)]
    assert network.run(["x"], lambda number, taken: f"{number}({','.join(taken)})") == {"y": "3(0(x),2(1(0(x))))"}


def test_what_two_blocks_compute_alike_without_weights_is_one_node() -> None:
    pool = BlockSpec("max_pool", 8, 4, 4, 8, kernel=3, activation="none")
    network = made(pool, pool, SUM, sources=[(-1,), (-1,), (0, 1)])
    assert [(node["op"], node["inputs"]) for node in network.nodes] == [
        ("MaxPool", ["input"]),
        ("Add", ["0.pool", "0.pool"]),
        ("Relu", ["2.sum"]),
    ]
    weighted = made(CONVOLUTION, CONVOLUTION, SUM, sources=[(-1,), (-1,), (0, 1)])
    assert sum(node["op"] == "Conv" for node in weighted.nodes) == 2


@pytest.mark.parametrize(
    ("blocks", "sources", "said"),
    [
        ([], [], "at least one block"),
        (
            [CONVOLUTION, SUM],
            [(-1,), (0,)],
            r"block 1 \(add.*\) takes \[8, 4, 4\] and \[8, 4, 4\], but gets \[8, 4, 4\]",
        ),
        ([CONVOLUTION, CONVOLUTION], [(1,), (0,)], r"block 0 .* reads blocks \[1\], which come no earlier"),
        ([CONVOLUTION, CONVOLUTION, SUM], [(-1,), (-1,), (1, -1)], "nobody reads block 0"),
    ],
)
def test_what_cannot_be_computed_or_is_of_no_use_is_refused(
    blocks: list[BlockSpec], sources: list[tuple[int, ...]], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        made(*blocks, sources=sources)
