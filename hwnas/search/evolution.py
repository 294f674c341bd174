"""Evolution on arrays: the inner search over predictions, where a candidate costs microseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Floats
from hwnas.search.moves import refine
from hwnas.search.screen import Screen, distinct, first_rows
from hwnas.spaces import Genomes

REDRAWN = (0.1, 0.03, 0.0)
"""Probabilities with which mutants redraw each other choice beside the one that changes, a third of them each."""


@dataclass(frozen=True)
class Effort:
    """How much an inner search looks at: at most about 2 · ``islands`` · ``children`` · ``generations`` candidates.

    Attributes:
        islands: populations that begin apart; a power of two.
        population: of each island.
        children: of each island in a generation.
        generations: from one union of islands to the next.
        refined: how many of the best are improved by exchanges in the end.
    """

    islands: int = 4
    population: int = 64
    children: int = 128
    generations: int = 10
    refined: int = 1


QUICK = Effort()
"""For a predictor that is taught anew after every few evaluations."""
THOROUGH = Effort(islands=32, population=64, children=192, generations=16, refined=4)
"""For a predictor that is final."""


def evolve(
    screen: Screen,
    score: Callable[[Genomes], Floats],
    rng: np.random.Generator,
    start: Genomes,
    effort: Effort = QUICK,
) -> Genomes:
    """Search for high scores under the budget.

    Islands of (μ+λ) evolution with truncation selection (Bäck 1996, Sec. 2.1) settle in different corners of the
    space; then two and two are united, whose crossover joins what each found, until one is left.  Half of the
    children are mutants, half come of uniform crossover; those over the budget are dropped before they are scored.
    The best are refined by exchanges (:func:`~hwnas.search.moves.refine`).

    Args:
        score: of each row of [n, choices], [n]; higher is better.
        start: [m, choices], at least one row, all within the budget.

    Returns:
        Distinct architectures within the budget, best first: as many as an island holds, or fewer.
    """
    start = distinct(start)
    islands = min(effort.islands, 1 << (len(start).bit_length() - 1))
    population = _Population(start, score(start), np.arange(len(start)) % islands).best(effort.population)
    while True:
        for _ in range(effort.generations):
            population = _generation(screen, score, rng, population, effort)
        if islands == 1:
            break
        islands //= 2
        united = _Population(population.genomes, population.scores, population.island % islands)
        population = united.best(effort.population)
    improved = [refine(screen, score, row[None]) for row in population.genomes[: effort.refined]]
    genomes = distinct(np.concatenate([*improved, population.genomes]))
    return np.asarray(genomes[np.argsort(-score(genomes), kind="stable")])


@dataclass(frozen=True)
class _Population:
    """Architectures [n, choices], their scores [n] and on which island each lives [n]."""

    genomes: Genomes
    scores: Floats
    island: npt.NDArray[np.int64]

    def best(self, n: int) -> _Population:
        """The ``n`` best of each island, island by island, best first; ties in order of appearance."""
        order = np.lexsort((-self.scores, self.island))
        rank = np.arange(len(order)) - np.searchsorted(self.island[order], self.island[order])
        kept = order[rank < n]
        return _Population(self.genomes[kept], self.scores[kept], self.island[kept])


def _generation(
    screen: Screen,
    score: Callable[[Genomes], Floats],
    rng: np.random.Generator,
    parents: _Population,
    effort: Effort,
) -> _Population:
    """The best of each island's parents and their children."""
    first = np.flatnonzero(np.diff(parents.island, prepend=-1))
    size = np.diff(first, append=len(parents.island))
    island = np.repeat(np.arange(len(first)), effort.children)
    mothers, fathers = (parents.genomes[first[island] + rng.integers(size[island])] for _ in range(2))
    mutates = np.arange(len(island)) % 2 == 0
    children = mothers.copy()
    children[~mutates] = screen.space.crossover(rng, mothers[~mutates], fathers[~mutates])
    mutants = np.flatnonzero(mutates)
    for third, probability in enumerate(REDRAWN):
        rows = mutants[third :: len(REDRAWN)]
        children[rows] = screen.space.mutate(rng, mothers[rows], probability)
    keeps = screen.keeps(children)
    genomes = np.concatenate([parents.genomes, children[keeps]])
    homes = np.concatenate([parents.island, island[keeps]])
    new = first_rows(np.concatenate([homes.astype(np.int8)[:, None], genomes], axis=1))
    new = new[len(parents.genomes) :]  # parents are distinct, so that they are the first of the first
    if not len(new):
        return parents
    scores = np.concatenate([parents.scores, score(genomes[new])])
    joined = np.concatenate([np.arange(len(parents.genomes)), new])
    return _Population(genomes[joined], scores, homes[joined]).best(effort.population)
