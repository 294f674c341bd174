"""Which subnets are trained at which step of a run, and who teaches them.

A recipe is a list of phases, and that is all in which recipes differ: the loop, the state and the resumption are the
same for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Literal

import numpy as np

from hwnas.spaces import Architecture, Choice, Space
from hwnas.training.config import TrainingConfig

Draw = Callable[[np.random.Generator, int], list[Architecture]]


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps of a run in which subnets are drawn alike.

    Attributes:
        first, end: steps, the end not included.
        before, after: subnets of every step, before and after the random ones.
        draw: so many random subnets; equal generators draw equal ones.
        teacher: ``first`` is the first subnet drawn, which itself learns from the labels; ``full`` is the network
            that the phase before the first such phase left, with weights that no longer change.
        sorts: channels are sorted by importance before the first step.
        cycle: steps from which to which the learning rate falls, and its height relative to the configured one.
    """

    name: str
    first: int
    end: int
    before: tuple[Architecture, ...]
    draw: Draw
    after: tuple[Architecture, ...]
    teacher: Literal["first", "full"]
    sorts: bool
    cycle: tuple[int, int, float]


def phases(space: Space, config: TrainingConfig, full_steps: int, total_steps: int) -> list[Phase]:
    """The phases of a run, in order and without gaps; none is empty."""
    drawn = RECIPES[config.recipe](space, config, full_steps, total_steps)
    return [phase for phase in drawn if phase.first < phase.end]


def subnets(space: Space, phase: Phase, config: TrainingConfig, step: int) -> list[Architecture]:
    """The subnets of a step; seed and step decide, so that all processes and a resumed run draw the same."""
    rng = np.random.default_rng((config.seed, step))
    drawn = [*phase.before, *_random(phase, config, step, rng), *phase.after]
    if config.resolution == "step":
        genomes = space.encode(drawn)
        genomes[:, space.position("resolution")] = rng.integers(len(space.resolutions))
        return space.decode(genomes)
    return drawn


def _random(phase: Phase, config: TrainingConfig, step: int, rng: np.random.Generator) -> list[Architecture]:
    """Those of a step, or some of the pool of the ``pool_steps`` steps that it belongs to."""
    if not config.subnet_pool:
        return phase.draw(rng, config.random_subnets)
    pool = _pool(phase, config.subnet_pool, (config.seed, step // config.pool_steps))
    chosen = rng.choice(len(pool), min(config.random_subnets, len(pool)), replace=False)
    return [pool[index] for index in chosen]


@lru_cache(maxsize=4)
def _pool(phase: Phase, size: int, seed: tuple[int, int]) -> list[Architecture]:
    """Kept, for it serves many steps."""
    return phase.draw(np.random.default_rng((*seed, _POOL)), size)


_POOL = 1
"""Tells the seed of a pool from that of a step."""


# --- sandwich and single-stage --------------------------------------------------------------------------------


def _sandwich(space: Space, config: TrainingConfig, full_steps: int, total_steps: int) -> list[Phase]:
    """The largest subnet alone, then the sandwich rule (Yu and Huang 2019, "Universally Slimmable Networks").

    The first of a sandwich teaches the others ("inplace distillation", ibid.).  Without a phase of the largest alone it
    is the single-stage training of BigNAS (Yu et al. 2020, Sec. 3.1).
    """
    cycle = (0, total_steps, 1.0)
    largest, smallest = (space.largest,), (space.smallest,)
    return [
        Phase("full", 0, full_steps, largest, _none, (), "first", False, cycle),
        Phase(
            config.recipe,
            full_steps,
            total_steps,
            largest,
            partial(_anywhere, space),
            smallest,
            "first",
            full_steps > 0,
            cycle,
        ),
    ]


def _anywhere(space: Space, rng: np.random.Generator, count: int) -> list[Architecture]:
    return space.decode(space.sample(rng, count))


def _none(_: np.random.Generator, __: int) -> list[Architecture]:
    return []


# --- progressive shrinking ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shrinking:
    """A phase of the published schedule: what becomes elastic, in how many epochs, at which rate."""

    dimension: Literal["kernel", "depth", "width"]
    smaller: int | None
    """How many values below the largest may be chosen; None: all."""
    epochs: float
    rate: float


FULL_RATE = 2.6
SHRINKING = (
    Shrinking("kernel", None, 125, 0.96),
    Shrinking("depth", 1, 25, 0.08),
    Shrinking("depth", None, 125, 0.24),
    Shrinking("width", 1, 25, 0.08),
    Shrinking("width", None, 125, 0.24),
)
"""Cai et al. 2020, "Once-for-All", appendix B, and ``train_ofa_net.py`` of their code, whose rates are those of each of
32 GPUs; 125 epochs are 120 and 5 of warm-up.  The full network had 180 epochs at ``FULL_RATE``.  They draw 1, 2 and 4
subnets a step in these phases; here ``random_subnets`` says how many."""


def _progressive(space: Space, _: TrainingConfig, full_steps: int, total_steps: int) -> list[Phase]:
    """Kernels, then depths, then widths become elastic; the full network teaches (Cai et al. 2020, Sec. 3.3).

    Each phase has its share of the published epochs and rates.  One in which nothing new could be chosen is left out.
    """
    parts = list(_shrinkings(space))
    shares = np.cumsum([0.0] + [part.epochs for part, _ in parts])
    shares /= max(shares[-1], 1.0)
    ends = [full_steps + round(float(share) * (total_steps - full_steps)) for share in shares]
    full = (space.largest,)
    found = [Phase("full", 0, full_steps, full, _none, (), "first", False, (0, full_steps, 1.0))]
    for (part, floor), (first, end) in zip(parts, pairwise(ends), strict=True):
        name = part.dimension if part.smaller is None else f"{part.dimension}, {part.smaller} smaller"
        cycle = (first, end, part.rate / FULL_RATE)
        draw = partial(_above, space, floor)
        found.append(Phase(name, first, end, (), draw, (), "full", part.dimension == "width", cycle))
    return found


def _shrinkings(space: Space) -> Iterator[tuple[Shrinking, np.ndarray]]:
    """The phases that a space has, each with the lowest gene of every choice."""
    largest = np.array([len(choice.values) - 1 for choice in space.choices])
    floor = np.array([0 if _dimension(choice) == "resolution" else len(choice.values) - 1 for choice in space.choices])
    for part in SHRINKING:
        lowest = np.zeros_like(largest) if part.smaller is None else np.maximum(largest - part.smaller, 0)
        belongs = np.array([_dimension(choice) == part.dimension for choice in space.choices])
        shrunk = np.where(belongs, lowest, floor)
        last_of_dimension = part.smaller is None or np.any(belongs & (lowest > 0))
        if np.any(shrunk < floor) and last_of_dimension:
            yield part, shrunk
            floor = shrunk


def _dimension(choice: Choice) -> str:
    """Kernel, depth, resolution; all else (expansions, widths, operations) shrinks last, as widths do."""
    last = choice.label.rpartition(".")[2]
    return last if last in ("kernel", "depth", "resolution") else "width"


def _above(space: Space, floor: np.ndarray, rng: np.random.Generator, count: int) -> list[Architecture]:
    """Random subnets, each gene uniform from its floor to its largest value."""
    sizes = np.array([len(choice.values) for choice in space.choices])
    genes = floor + (rng.random((count, len(sizes))) * (sizes - floor)).astype(np.int64)
    return space.decode(space.canonical(genes.astype(np.int8)))


RECIPES: dict[str, Callable[[Space, TrainingConfig, int, int], list[Phase]]] = {
    "sandwich": _sandwich,
    "single-stage": _sandwich,
    "progressive": _progressive,
}
"""By what ``TrainingConfig.recipe`` says."""
