"""Aging evolution (Real et al. 2019, Algorithm 1): the child of a tournament's winner takes the oldest one's place."""

from __future__ import annotations

import numpy as np

from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.strategies.batches import BatchStrategy, fresh
from hwnas.spaces import Genomes

CHILDREN = 512
"""Children drawn for a batch; most may be over the budget or known."""


def regularized_evolution(options: SearchOptions) -> Strategy:
    """Aging evolution, a third of the evaluations being its first population."""
    return RegularizedEvolution(options, population=max(2, min(100, options.evaluations // 3)))


class RegularizedEvolution(BatchStrategy):
    """Each child differs in one choice from the best of a quarter of the living, drawn anew for it.

    A batch of children has the same living parents, as the algorithm has on as many workers.
    """

    def __init__(self, options: SearchOptions, population: int) -> None:
        super().__init__(options)
        self._population = population

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        return fresh(space, rng, self._population)

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        genomes, top1 = (part[-self._population :] for part in self._history(space))
        drawn = rng.random((CHILDREN, len(genomes))).argsort(axis=1)[:, : max(2, self._population // 4)]
        winners = drawn[np.arange(CHILDREN), top1[drawn].argmax(axis=1)]
        return space.screen.space.mutate(rng, genomes[winners], probability=0.0)
