"""What a profile measures, and in which order, so that it is useful whenever it is stopped."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwnas.devices import MeasureOptions
from hwnas.errors import UserError
from hwnas.latency.base import Floats
from hwnas.latency.table import Role
from hwnas.spaces import Architecture, BlockSpec, Genomes, Network, Space

BASE_NETWORKS = 30
"""So many networks of each role are measured among the blocks; all others come after the last block."""
FEW_BLOCKS = 600
"""A space with no more distinct blocks is profiled at all of its resolutions."""
DEFAULT_RESOLUTIONS = 5
"""So many of the resolutions of a larger space are profiled; the blocks of the others are interpolated."""
LARGE_FROM_BYTES = 2 * 2**20
"""A space whose smallest network has larger weights is measured by the large canary: no core's own cache holds it."""
LARGE_FURTHER_BUILDS = 2
"""Its networks are built so many times more: builds of one differ by 1.7 % (standard deviation, shared host)."""
_NETWORK = "network"
_BYTES_PER_WEIGHT = 4
_POOL = 20_000
_SHARE_LEANING_APART = 0.5
_MACS_PER_ELEMENT = 8
"""Moving a feature map's element takes about as long as so many multiply-accumulates on a CPU's vector unit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing to be measured: a block alone or a whole network."""

    key: str
    """Names it in the journal; the same content has the same key in every profile."""
    network: Network
    architecture: Architecture | None = None
    role: Role | None = None

    @classmethod
    def of_block(cls, block: BlockSpec) -> Unit:
        """A block alone."""
        return cls(f"block {block.key}", Network.of_block(block))

    @classmethod
    def of_network(cls, space: Space, architecture: Architecture, role: Role) -> Unit:
        """A whole network."""
        key = f"{_NETWORK} {architecture.id} {space.num_classes} classes"
        return cls(key, space.network(architecture), architecture, role)


def is_network(key: str) -> bool:
    """Whether a unit's key is that of a whole network."""
    return key.startswith(f"{_NETWORK} ")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: first ``base``, in order; then the others, as far as time allows."""

    base: tuple[Unit, ...]
    """Every block, and the first networks of each role among them."""
    held_out: tuple[Unit, ...]
    """Further networks that are held out."""
    pool: Genomes = field(compare=False)
    """Networks of which further ones are chosen for the fit, [n, choices]."""
    further: int
    """How many of them at most."""


def make_plan(space: Space, resolutions: Sequence[int], seed: int, calibration: int, validation: int) -> Plan:
    """The plan of a profile: every distinct block at ``resolutions``, and the first networks of each role.

    Blocks come in random order with the base networks in between, the calibration ones twice as dense, so that a
    profile stopped early has blocks and networks from everywhere in the space.
    """
    rng = np.random.default_rng(seed)
    blocks = blocks_at(space, resolutions)
    shuffled = [Unit.of_block(blocks[i]) for i in rng.permutation(len(blocks))]
    counts: dict[Role, int] = {"calibration": min(calibration, BASE_NETWORKS), "validation": validation}
    networks, pool = spread_networks(space, rng, counts)
    base = _interleave((shuffled, 1.0), (networks["calibration"], 0.5), (networks["validation"][:BASE_NETWORKS], 1.0))
    return Plan(base, tuple(networks["validation"][BASE_NETWORKS:]), pool, max(0, calibration - BASE_NETWORKS))


def make_networks_plan(space: Space, seed: int, calibration: int, validation: int) -> Plan:
    """The plan of a profile of whole networks alone, which few-shot models are fitted to.

    Nothing is known by which further networks could be chosen, so all are those spread evenly over a guessed latency.
    """
    networks, pool = spread_networks(
        space, np.random.default_rng(seed), {"calibration": calibration, "validation": validation}
    )
    base = _interleave((networks["calibration"], 1.0), (networks["validation"], 1.0))
    return Plan(base, (), pool, further=0)


def network_protocol(space: Space, fps: float = 0.0, min_samples: int = 64) -> MeasureOptions:
    """How the space's whole networks are measured: gated by the canary that disturbances slow down as they do them.

    ``fps``: frames a second in whose rhythm they run; 0 for back to back.
    """
    # Under an arrival rate a sample takes a frame's time; four times that leaves room for batches that do not count.
    max_seconds = max(8.0, 4.0 * min_samples / fps) if fps else max(8.0, 8.0 * min_samples / 64)
    options = MeasureOptions(min_samples=min_samples, max_seconds=max_seconds, fps=fps)
    if not _is_large(space):
        return options
    # Neighbours on the memory bus slow the large canary by more than its tolerance for minutes; dividing that out
    # leaves as little spread between builds as waiting for its fast state does (1.4 and 1.5 %).
    return replace(options, canary="large", tolerance=0.25)


def network_builds(space: Space, builds: int) -> int:
    """How often whole networks of a space are built and measured where its blocks are ``builds`` times."""
    return builds + LARGE_FURTHER_BUILDS * _is_large(space)


def _is_large(space: Space) -> bool:
    return _BYTES_PER_WEIGHT * float(space.params(space.smallest_genome)[0]) > LARGE_FROM_BYTES


def calibration_networks(space: Space) -> int:
    """How many networks the model is fitted on: fewer of a large space, whose networks take longer."""
    return 200 if len(space.distinct_blocks) <= FEW_BLOCKS else 100


def validation_networks(space: Space) -> int:
    """How many networks are held out, likewise."""
    return 200 if len(space.distinct_blocks) <= FEW_BLOCKS else 110


def default_resolutions(space: Space) -> tuple[int, ...]:
    """All of a small space's resolutions; of a larger one's the smallest, the largest, and evenly some between."""
    if len(space.distinct_blocks) <= FEW_BLOCKS or len(space.resolutions) <= DEFAULT_RESOLUTIONS:
        return space.resolutions
    positions = np.linspace(0, len(space.resolutions) - 1, DEFAULT_RESOLUTIONS).round().astype(int)
    return tuple(space.resolutions[i] for i in positions)


def checked_resolutions(space: Space, wanted: Iterable[int]) -> tuple[int, ...]:
    """The resolutions, ascending and each once.

    Raises:
        UserError: there are none, or the space does not have one of them.
    """
    resolutions = tuple(sorted(set(wanted)))
    unknown = [r for r in resolutions if r not in space.resolutions]
    if unknown or not resolutions:
        named = f"no resolution {unknown[0]}" if unknown else "nothing to profile without any resolution"
        raise UserError(f"Space {space.name} has {named}; it has {', '.join(map(str, space.resolutions))}.")
    return resolutions


def blocks_at(space: Space, resolutions: Sequence[int]) -> tuple[BlockSpec, ...]:
    """The distinct blocks that occur at some of these resolutions, slot by slot."""
    found: dict[BlockSpec, None] = {}
    for slot in space.slots:
        options = [
            tuple(resolutions) if label == "resolution" else space.choices[space.position(label)].values
            for label in slot.choices
        ]
        for block in itertools.starmap(slot.build, itertools.product(*options)):
            if block is not None:
                found[block] = None
    return tuple(found)


def spread_networks(
    space: Space, rng: np.random.Generator, counts: dict[Role, int]
) -> tuple[dict[Role, list[Unit]], Genomes]:
    """Different random networks for each role, spread evenly over latency, as is every beginning of each list.

    Beside them a pool [n, choices] of others, none of which is or ever will be held out.

    Before anything is measured, latency is guessed from multiply-accumulates and tensor elements.  The calibration
    networks begin with the smallest and the largest, so that a fit need not extrapolate.
    """
    extremes = np.concatenate([space.smallest_genome, space.largest_genome])
    pool = varied_architectures(space, rng, _POOL)
    pool = np.unique(np.concatenate([extremes, pool]), axis=0)
    is_extreme = (pool[:, None, :] == extremes[None]).all(axis=2).any(axis=1)
    pool = pool[~is_extreme]
    pool = pool[rng.permutation(len(pool))]
    drawn: dict[Role, list[Genomes]] = {"calibration": list(extremes[:, None]), "validation": []}
    # Each role draws from a share of the pool of its own: the number of one does not change the other.
    bases: dict[Role, int] = {"calibration": 2, "validation": 3}
    for start, (role, base) in enumerate(bases.items()):
        role_pool = pool[start::2]
        order = _evenly(_guessed_cost(space, role_pool), base, counts[role])
        drawn[role] += [role_pool[i : i + 1] for i in order]
        if role == "calibration":
            rest = np.delete(role_pool, order, axis=0)
    networks = {
        role: [
            Unit.of_network(space, architecture, role)
            for genome in genomes[: counts[role]]
            for architecture in space.decode(genome)
        ]
        for role, genomes in drawn.items()
    }
    return networks, rest


def fresh_networks(space: Space, seed: int, n: int, known: Collection[str]) -> list[Unit]:
    """``n`` held-out networks spread evenly over latency, none of whose ids is among ``known``."""
    counts: dict[Role, int] = {"calibration": 0, "validation": n + len(known) if n else 0}
    networks, _ = spread_networks(space, np.random.default_rng(seed), counts)
    fresh = [unit for unit in networks["validation"] if unit.architecture and unit.architecture.id not in known]
    return fresh[:n]


def varied_architectures(space: Space, rng: np.random.Generator, n: int) -> Genomes:
    """Random architectures of all sizes and proportions: uniform choices alone are nearly all of the middle ones.

    Half of them lean to one size in all choices; the others lean to sizes of their own in resolution, depth, kernel and
    expansion, as those do that a search proposes: small kernels and wide blocks, say.
    """
    sizes = np.array([len(choice.values) for choice in space.choices])
    kinds = [choice.label.rpartition(".")[2] for choice in space.choices]
    _, kind = np.unique(kinds, return_inverse=True)
    genes = np.floor(rng.random((n, len(sizes))) * sizes)
    apart = rng.random((n, 1)) < _SHARE_LEANING_APART
    one = np.zeros_like(kind)
    leaning = rng.random((n, kind.max() + 1))
    leaning = np.floor(np.where(apart, leaning[:, kind], leaning[:, one]) * sizes)
    leans = rng.random(genes.shape) < rng.random((n, 1))
    return space.canonical(np.where(leans, leaning, genes).astype(np.int8))


def _guessed_cost(space: Space, genomes: Genomes) -> Floats:
    per_block = [block.macs + _MACS_PER_ELEMENT * elements_moved(block) for block in space.distinct_blocks]
    return space.block_sum(genomes, np.array(per_block, np.float64))


def elements_moved(block: BlockSpec) -> int:
    """Elements of the feature maps that a block reads and writes at its border and, if it widens, inside."""
    pixels_in = block.in_height * block.in_width
    pixels_out = block.out_height * block.out_width
    return pixels_in * (block.in_channels + block.mid_channels) + pixels_out * (block.out_channels + block.mid_channels)


def _evenly(costs: Floats, base: int, n: int) -> list[int]:
    """Up to ``n`` different positions in ``costs``, any beginning of which is spread evenly between its extremes."""
    order = np.argsort(costs, kind="stable")
    ascending = costs[order]
    free = list(range(len(order)))
    chosen = []
    for fraction in itertools.islice(_van_der_corput(base), min(n, len(order))):
        target = ascending[0] + fraction * (ascending[-1] - ascending[0])
        nearest = int(np.argmin(np.abs(ascending[free] - target)))
        chosen.append(int(order[free.pop(nearest)]))
    return chosen


def _van_der_corput(base: int) -> Iterator[float]:
    """The low-discrepancy sequence of that base in (0, 1)."""
    number = 0
    while True:
        number += 1
        rest, fraction, scale = number, 0.0, 1.0
        while rest:
            rest, digit = divmod(rest, base)
            scale /= base
            fraction += digit * scale
        yield fraction


def _interleave(*rows: tuple[Sequence[Unit], float]) -> tuple[Unit, ...]:
    """Each row spread evenly over the beginning of the whole that its number says (1.0: over all of it)."""
    placed = [
        ((i + 0.5) / len(units) * end, number, unit)
        for number, (units, end) in enumerate(rows)
        for i, unit in enumerate(units)
    ]
    return tuple(unit for _, _, unit in sorted(placed, key=lambda entry: entry[:2]))
