"""Networks of equal measured latency: yardsticks scaled in width, and other subnets of a searched one's space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hwnas.latency import LatencyModel
from hwnas.pipeline.stopwatch import Stopwatch
from hwnas.spaces import Architecture, BlockSpec, Genomes, Network, Space
from hwnas.spaces.yardsticks import YARDSTICKS, widths

BUILDS = 3
"""Of each network whose latency decides."""
NEAREST = 3
"""Networks that are measured on several builds, of which the nearest is taken."""
SPREAD = (0.88, 0.94, 1.0, 1.06, 1.12)
"""Factors on a width, over which latency is fitted by a line."""
DRAWN = 100_000


@dataclass(frozen=True)
class Scaled:
    """A yardstick at the width at which it comes nearest to a latency."""

    width: float
    network: Network


def scaled_to(name: str, alike: Network, watch: Stopwatch) -> Scaled:
    """The yardstick of the input and the halvings of ``alike`` whose measured latency is the nearest to its.

    The width is bisected, one build a step; around what that gives, latency is fitted by a line; and of those that
    this says are nearest, measured on several builds in turn with ``alike``, the nearest is taken.
    """
    first, head = alike.blocks[0], alike.blocks[-1]
    strides = round(math.log2(first.in_height / head.in_height))
    build = partial(_yardstick, name, first.in_height, head.out_channels, strides)
    grid = [(width, Network.of(blocks)) for width, blocks in widths(build)]
    apart = replace(watch, journal=watch.journal.with_stem(f"{watch.journal.stem}-{name}"))
    about = grid[_bisected(grid, alike, apart)][0]
    spread = sorted({_at(grid, about * factor) for factor in SPREAD})
    wanted_ms, *times = apart.figures_ms([alike, *(grid[number][1] for number in spread)], BUILDS)
    fitted = np.polynomial.Polynomial.fit([grid[number][0] for number in spread], times, 1)
    order = sorted(range(spread[0], spread[-1] + 1), key=lambda number: abs(fitted(grid[number][0]) - wanted_ms))
    near = [grid[number] for number in order[:NEAREST]]
    wanted_ms, *times = apart.figures_ms([alike, *(network for _, network in near)], BUILDS)
    (width, network), _ = min(zip(near, times, strict=True), key=partial(_distance, wanted_ms))
    return Scaled(width, network)


def _yardstick(name: str, resolution: int, num_classes: int, strides: int, width: float) -> list[BlockSpec]:
    return YARDSTICKS[name](resolution, num_classes, width, strides)


Grid = Sequence[tuple[float, Network]]


def _bisected(grid: Grid, alike: Network, watch: Stopwatch) -> int:
    """Position of the first that is not faster than ``alike``, if latency rises; the last one, if all are."""
    (wanted_ms,) = watch.figures_ms([alike])
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        (found_ms,) = watch.figures_ms([grid[middle][1]])
        low, high = (middle + 1, high) if found_ms < wanted_ms else (low, middle)
    return low


def _at(grid: Grid, width: float) -> int:
    return min(range(len(grid)), key=lambda number: abs(grid[number][0] - width))


def _distance(wanted_ms: float, timed: tuple[object, float]) -> float:
    return abs(timed[1] - wanted_ms)


def random_subnets(
    space: Space, model: LatencyModel, alike: Architecture, count: int, watch: Stopwatch
) -> list[Architecture]:
    """Random architectures whose measured latency comes nearest to that of ``alike``, none of them ``alike``.

    ``model`` says which are measured: as near to what it predicts for ``alike`` as can be.
    """
    genomes = space.sample(np.random.default_rng(0), DRAWN)
    return _nearest(space, genomes, model, alike, watch, NEAREST * count)[:count]


def uniform_subnet(space: Space, model: LatencyModel, alike: Architecture, watch: Stopwatch) -> Architecture:
    """The architecture with all stages of one kind whose measured latency comes nearest to that of ``alike``.

    Each kind of choice (resolution, depths, kernels, expansions) has one size throughout.
    """
    kinds = [choice.label.rpartition(".")[2] for choice in space.choices]
    named, kind = np.unique(kinds, return_inverse=True)
    sizes = [max(len(c.values) for c, k in zip(space.choices, kinds, strict=True) if k == name) for name in named]
    levels = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(named))
    last = np.array([len(choice.values) - 1 for choice in space.choices])
    genomes = space.canonical(np.minimum(levels[:, kind], last).astype(np.int8))
    return _nearest(space, genomes, model, alike, watch, 2 * NEAREST)[0]


def _nearest(
    space: Space, genomes: Genomes, model: LatencyModel, alike: Architecture, watch: Stopwatch, measured: int
) -> list[Architecture]:
    """Those that are predicted nearest to ``alike``, nearest first by what was measured in turn with it."""
    genome = space.encode([alike])
    others = np.unique(genomes[(genomes != genome).any(1)], axis=0)
    order = np.argsort(np.abs(model.predict(others)[0] - model.predict(genome)[0]), kind="stable")[:measured]
    near = space.decode(others[order])
    wanted_ms, *times = watch.figures_ms([space.network(architecture) for architecture in (alike, *near)], BUILDS)
    return [
        architecture for architecture, _ in sorted(zip(near, times, strict=True), key=partial(_distance, wanted_ms))
    ]
