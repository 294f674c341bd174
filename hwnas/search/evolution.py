"""Evolution on arrays: the inner search over predictions, where a candidate costs microseconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwnas.search.budget import Floats
from hwnas.search.screen import Screen, first_rows
from hwnas.spaces import Genomes


def evolve(
    screen: Screen,
    score: Callable[[Genomes], Floats],
    rng: np.random.Generator,
    start: Genomes,
    *,
    population: int = 256,
    generations: int = 16,
) -> Genomes:
    """Search for high scores under the budget: a (μ+λ) evolution with truncation selection.

    Half of the children are mutants, half come of uniform crossover; those over the budget are dropped.

    Args:
        score: of each row of [n, choices], [n]; higher is better.
        start: [m, choices], at least one row, all within the budget.

    Returns:
        Up to ``population`` distinct architectures within the budget, best first.
    """
    parents, scores = _best(start, score(start), population)
    for _ in range(generations):
        mothers = parents[rng.integers(len(parents), size=population)]
        fathers = parents[rng.integers(len(parents), size=population // 2)]
        mutants = screen.space.mutate(rng, mothers[population // 2 :])
        crossed = screen.space.crossover(rng, mothers[: population // 2], fathers)
        children = np.concatenate([mutants, crossed])
        children = children[screen.keeps(children)]
        if len(children):
            joined = np.concatenate([parents, children])
            parents, scores = _best(joined, np.concatenate([scores, score(children)]), population)
    return parents


def _best(genomes: Genomes, scores: Floats, n: int) -> tuple[Genomes, Floats]:
    """The ``n`` best distinct rows, best first; ties in order of appearance."""
    order = np.argsort(-scores, kind="stable")
    best = order[first_rows(genomes[order])[:n]]
    return genomes[best], scores[best]
