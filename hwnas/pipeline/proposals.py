"""Networks as a search proposes them: the largest that a latency model believes to keep a budget.

Such a search looks for what the model takes to be faster than its size, and so for the model's errors; networks
drawn at random do not show them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from hwnas.latency import LatencyModel
from hwnas.progress import Progress, Silent
from hwnas.search import Budget
from hwnas.search.evolution import Effort, evolve
from hwnas.search.feasibility import fastest
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture, Genomes

_POPULATION, _GENERATIONS = 128, 60


def propose(
    target: str,
    model: LatencyModel,
    n: int,
    seed: int = 0,
    without: Collection[str] = (),
    progress: Progress | None = None,
) -> list[Architecture]:
    """Up to ``n`` different architectures, for budgets spread evenly between the fastest and the largest.

    For each budget an evolution looks for the most multiply-accumulates, or in turn for the most of these times
    parameters, among what the model predicts to take no longer.

    Args:
        target: the device whose latency the model predicts.
        without: ids of architectures that are not proposed.
    """
    progress, space = progress or Silent(), model.space
    rng = np.random.default_rng(seed)
    architecture, least_ms = fastest(space, model)
    start = space.encode([architecture])
    most_ms = float(model.predict(space.largest_genome)[0][0])
    taken, proposed = set(without), []

    def weighted(genomes: Genomes) -> npt.NDArray[np.float64]:
        return space.macs(genomes) * space.params(genomes)

    progress.start("propose networks", n, unit="networks")
    for i in range(n):
        limit = least_ms + (i + 0.5) / n * (most_ms - least_ms)
        screen = Screen(space, model, Budget(target, "latency_ms", limit, confidence=0.5), start)
        survivors = evolve(
            screen,
            weighted if i % 2 else space.macs,
            rng,
            np.concatenate([start, screen.sample(rng, _POPULATION)]),
            Effort(islands=1, population=_POPULATION, children=_POPULATION, generations=_GENERATIONS),
        )
        found = next((each for each in space.decode(survivors) if each.id not in taken), None)
        if found is not None:
            taken.add(found.id)
            proposed.append(found)
        progress.advance()
    progress.finish()
    return proposed
