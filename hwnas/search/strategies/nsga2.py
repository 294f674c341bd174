"""NSGA-II (Deb et al. 2002): evolution towards the whole front of accuracy and latency."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Floats
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes

CHILDREN = 512
"""Children drawn for a batch; most may be over the budget or known."""


def nsga2(options: SearchOptions) -> Strategy:
    """NSGA-II with a population of ``initial``."""
    return NonDominatedSorting(options)


class NonDominatedSorting(BatchStrategy):
    """Parents are the least dominated, and of these the least crowded, of all that was evaluated.

    A population beside this archive, as where evaluations are cheap, would forget some of the few that there are.
    """

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        screen = space.screen
        genomes, top1 = self._history(space)
        within = screen.keeps(genomes)
        genomes, top1 = genomes[within], top1[within]
        if not len(genomes):
            return genomes
        objectives = np.stack([-top1, screen.latency(genomes)], axis=1)
        parents = genomes[survivors(objectives, self._options.initial)]
        # Survivors come best first, so the winner of a binary tournament is the lesser index.
        mothers, fathers = rng.integers(len(parents), size=(2, 2, CHILDREN)).min(axis=1)
        children = screen.space.crossover(rng, parents[mothers], parents[fathers])
        children = np.where(rng.random((CHILDREN, 1)) < 0.5, children, screen.space.mutate(rng, children, 0.0))
        return distinct(children)


def survivors(objectives: Floats, n: int) -> npt.NDArray[np.intp]:
    """Indices of the ``n`` best rows of [m, objectives], each to be small: by front, then by crowding, best first."""
    ranks = non_dominated_ranks(objectives)
    order: list[int] = []
    for rank in range(int(ranks.max()) + 1):
        front = np.flatnonzero(ranks == rank)
        order += front[np.argsort(-crowding(objectives[front]), kind="stable")].tolist()
        if len(order) >= n:
            break
    return np.array(order[:n], np.intp)


def non_dominated_ranks(objectives: Floats) -> npt.NDArray[np.intp]:
    """The front of each row of [m, objectives]: 0 where no row is better in one objective and as good in all, [m]."""
    no_worse = np.asarray((objectives[:, None] <= objectives[None]).all(axis=2))
    dominates = no_worse & ~no_worse.T
    ranks = np.full(len(objectives), -1, np.intp)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        ranks[left & ~dominates[left].any(axis=0)] = rank
        rank += 1
    return ranks


def crowding(objectives: Floats) -> Floats:
    """How far apart the neighbours of each row of a front are, summed over objectives; infinite at its ends, [m]."""
    distance = np.zeros(len(objectives))
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        extent = float(values[order[-1]] - values[order[0]]) or 1.0
        distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / extent
        distance[order[[0, -1]]] = np.inf
    return distance
