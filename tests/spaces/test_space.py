from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import UnknownNameError, UserError
from hwnas.spaces import Architecture, BlockSpec, Choice, Genomes, Slot, Space, get_space, space_names

NAMES = [
    "mobilenet_v3/small",
    "mobilenet_v3/imagenet-w1.0",
    "mobilenet_v3/imagenet-w1.2",
    "proxyless/small",
    "proxyless/imagenet-w1.3",
    "proxyless/efficientnet-lite0",
    "resnet/small",
    "resnet/imagenet",
    "fire/small",
    "fire/small-bypass",
    "fire/imagenet",
    "fire/imagenet-bypass",
    "nasnet/small",
    "nasnet/imagenet",
]
spaces = st.sampled_from([get_space(name) for name in NAMES])
seeds = st.integers(0, 2**32)


def tiny_space() -> Space:
    """Few enough architectures to write all of them down."""

    def build(resolution: int, kernel: int) -> BlockSpec:
        return BlockSpec("mbconv", 8, resolution, resolution, 8, 16, kernel, skip=True)

    choices = [
        Choice("resolution", (8, 12)),
        Choice("depth", (1, 2)),
        Choice("block1.kernel", (3, 5, 7), "depth"),
        Choice("block2.kernel", (3, 5), "depth", active_from=1),
    ]
    slots = [Slot(f"block{b}", ("resolution", f"block{b}.kernel"), build) for b in (1, 2)]
    return Space("tiny", "test", 10, choices, slots)


def all_genomes(space: Space) -> Genomes:
    raw = itertools.product(*(range(-1, len(choice.values)) for choice in space.choices))
    genomes = np.array(list(raw), np.int8)
    return genomes[space.valid(genomes)]


def test_names_are_listed_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    assert sorted(NAMES) == sorted(space_names())
    with pytest.raises(UnknownNameError, match=r"'mobilenet_v3/smal'.*did you mean mobilenet_v3/small\?"):
        get_space("mobilenet_v3/smal")


def test_count_is_the_number_of_valid_genomes() -> None:
    space = tiny_space()
    genomes = all_genomes(space)
    assert len(genomes) == space.count == 2 * (3 + 3 * 2)
    assert len(set(space.ids(genomes))) == len(genomes)
    sampled = space.sample(np.random.default_rng(0), 2_000)
    assert {row.tobytes() for row in sampled} == {row.tobytes() for row in genomes}


def test_sizes_of_the_presets() -> None:
    small, published = get_space(NAMES[0]), get_space(NAMES[1])
    assert small.count >= 10**9
    middle = small.architecture(resolution=small.resolutions[len(small.resolutions) // 2])
    assert middle.resolution == 44
    assert small.macs(small.encode([middle]))[0] < 10e6
    # Cai et al. 2020, Sec. 4.1: ((3·3)² + (3·3)³ + (3·3)⁴)⁵ ≈ 2·10¹⁹ networks at each of 25 resolutions.
    assert published.count == 7371**5 * 25


@given(spaces, seeds)
@settings(max_examples=20, deadline=None)
def test_every_operation_yields_valid_architectures(space: Space, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mothers, fathers = space.sample(rng, 50), space.sample(rng, 50)
    mutants = space.mutate(rng, mothers)
    children = space.crossover(rng, mothers, fathers)
    for genomes in (mothers, mutants, children):
        assert genomes.dtype == np.int8
        assert space.valid(genomes).all()
    assert (mutants != mothers).any(axis=1).all()
    active_in_both = (mothers >= 0) & (fathers >= 0) & (children >= 0)
    assert ((children == mothers) | (children == fathers))[active_in_both].all()


def test_mutation_reaches_every_value_of_every_choice() -> None:
    space = tiny_space()
    rng = np.random.default_rng(0)
    largest = np.repeat(space.largest_genome, 3_000, axis=0)
    mutants = space.mutate(rng, largest, probability=0.3)
    assert {row.tobytes() for row in mutants} == {row.tobytes() for row in all_genomes(space)} - {
        space.largest_genome.tobytes()
    }


@given(spaces, seeds)
@settings(max_examples=20, deadline=None)
def test_single_and_vectorised_forms_agree(space: Space, seed: int) -> None:
    genomes = space.sample(np.random.default_rng(seed), 20)
    architectures = space.decode(genomes)
    assert (space.encode(architectures) == genomes).all()
    assert space.ids(genomes) == [architecture.id for architecture in architectures]
    assert [Architecture.from_json(a.to_json()) for a in architectures] == architectures
    for i, architecture in enumerate(architectures):
        blocks = space.blocks(architecture)
        assert space.macs(genomes)[i] == sum(block.macs for block in blocks)
        assert space.params(genomes)[i] == sum(block.params for block in blocks)


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_and_the_smallest_are_so_in_work_and_weights(name: str) -> None:
    space = get_space(name)
    genomes = np.concatenate([space.smallest_genome, space.sample(np.random.default_rng(0), 500), space.largest_genome])
    for count in (space.macs, space.params):
        found = count(genomes)
        assert found.argmin() == 0 and found.argmax() == len(genomes) - 1


@given(spaces, seeds)
@settings(max_examples=20, deadline=None)
def test_blocks_fit_together(space: Space, seed: int) -> None:
    for architecture in space.decode(space.sample(np.random.default_rng(seed), 5)):
        network = space.network(architecture)
        assert network.blocks == space.blocks(architecture)
        assert network.inputs == {"input": [3, architecture.resolution, architecture.resolution]}
        for block, sources in zip(network.blocks[1:], network.sources[1:], strict=True):
            assert [network.blocks[source].output_shape for source in sources] == block.input_shapes
        assert network.blocks[-1].output_shape == [space.num_classes]


@given(spaces, seeds)
@settings(max_examples=10, deadline=None)
def test_one_hot_says_what_is_active_and_which_value(space: Space, seed: int) -> None:
    genomes = space.sample(np.random.default_rng(seed), 20)
    encoded = space.one_hot(genomes)
    assert encoded.shape == (20, sum(len(choice.values) for choice in space.choices))
    start = 0
    for j, choice in enumerate(space.choices):
        columns = encoded[:, start : start + len(choice.values)]
        assert (columns.sum(axis=1) == (genomes[:, j] >= 0)).all()
        active = genomes[:, j] >= 0
        assert (columns.argmax(axis=1)[active] == genomes[active, j]).all()
        start += len(choice.values)


def test_the_canonical_hash_is_the_same_on_every_machine() -> None:
    assert get_space(NAMES[0]).largest.id == "8b8b08273c2da354"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "mobilenet_v3/imagenet-w1.0"}, "is of space mobilenet_v3/imagenet-w1.0, not mobilenet_v3/small"),
        ({"choices": {"resolution": 26}}, "has no resolution = 26"),
        ({"choices": {"stage9.depth": 2}}, "has no stage9.depth = 2"),
        ({"choices": {"stage1.depth": 2}}, "is not canonical"),
    ],
)
def test_bad_architectures_are_refused(change: dict[str, object], message: str) -> None:
    space = get_space(NAMES[0])
    data = space.largest.to_json()
    choices = data["choices"] | change.get("choices", {})
    broken = Architecture.from_json({"space": change.get("space", space.name), "choices": choices})
    with pytest.raises(UserError, match=message):
        space.encode([broken])


def test_the_number_of_classes_changes_only_the_head() -> None:
    ten, hundred = get_space(NAMES[0]), get_space(NAMES[0], 100)
    assert ten.blocks(ten.largest)[:-1] == hundred.blocks(hundred.largest)[:-1]
    assert hundred.blocks(hundred.largest)[-1].out_channels == 100


def test_blocks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="skip"):
        BlockSpec("mbconv", 8, 4, 4, 16, 16, 3, skip=True)
    with pytest.raises(ValueError, match="unknown operation"):
        BlockSpec("conv3d", 8, 4, 4, 16)
