"""The default strategy: surrogate-assisted evolution under the budget.

A Gaussian process learns accuracy from what was evaluated; a vectorised evolution over its predictions and the latency
model proposes a batch; the batch is evaluated with real weights; and so on (after Jin 2011, "Surrogate-assisted
evolutionary computation", and Cai et al. 2020, Sec. 3.4, whose predictor is not updated).
"""

from __future__ import annotations

import numpy as np

from hwnas.search.accuracy import PREDICTORS
from hwnas.search.budget import Floats
from hwnas.search.evolution import evolve
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import POOL, BatchStrategy
from hwnas.spaces import Genomes

NEAR_BUDGET = 0.6
"""The first candidates spread over latencies from this fraction of the greatest within the budget."""
OPTIMISM = 1.5
"""Most optimistic member of a batch: it is chosen by mean + this many standard deviations."""
LEAST_DIFFERENCE = 2
"""Choices in which members of a batch differ, where the candidates allow it."""


def surrogate_evolution(options: SearchOptions) -> Strategy:
    """The default strategy with a Gaussian process."""
    return SurrogateEvolution(options)


class SurrogateEvolution(BatchStrategy):
    """Evaluates batch after batch of what the surrogate thinks best or does not know."""

    def __init__(self, options: SearchOptions, predictor: str = "gaussian_process") -> None:
        super().__init__(options)
        self._predictor = predictor

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """The most MACs and the most parameters within the budget, and a random sample spread over latency near it."""
        screen = space.screen
        sample = screen.sample(rng, POOL)
        most_macs = evolve(screen, screen.space.macs, rng, sample)
        most_params = evolve(screen, screen.space.params, rng, sample)
        extremes = distinct(np.concatenate([most_macs[:1], most_params[:1]]))
        pool = distinct(np.concatenate([sample, most_macs, most_params]))
        spread = _spread(screen.latency(pool), self._options.initial, rng)
        return distinct(np.concatenate([extremes, pool[spread]]))[: self._options.initial]

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """A batch; empty when no new architecture within the budget is found."""
        screen, size = space.screen, self._options.batch
        predictor = PREDICTORS[self._predictor](screen.space)
        genomes, top1 = self._history(space)
        if len(genomes) < 2:
            return genomes
        predictor.fit(genomes, top1)

        def optimistic(rows: Genomes) -> Floats:
            mean, std = predictor.predict(rows)
            return mean + OPTIMISM * std

        start = distinct(np.concatenate([genomes[screen.keeps(genomes)], screen.sample(rng, POOL)]))
        best = evolve(screen, lambda rows: predictor.predict(rows)[0], rng, start)
        promising = evolve(screen, optimistic, rng, start)
        pool = space.unseen(distinct(np.concatenate([best, promising])))
        if len(pool) < size:
            pool = space.unseen(distinct(np.concatenate([pool, start])))
        return pool[_diverse(pool, *predictor.predict(pool), size)] if len(pool) else pool


def _spread(latency: Floats, n: int, rng: np.random.Generator) -> list[int]:
    """Indices of up to ``n`` entries spread evenly over latency, from near the greatest downwards."""
    targets = np.linspace(latency.max(), max(latency.min(), NEAR_BUDGET * latency.max()), n)
    free = np.ones(len(latency), np.bool_)
    order = rng.permutation(len(latency))
    chosen: list[int] = []
    for target in targets[: len(latency)]:
        distance = np.where(free[order], np.abs(latency[order] - target), np.inf)
        nearest = int(order[np.argmin(distance)])
        free[nearest] = False
        chosen.append(nearest)
    return chosen


def _diverse(pool: Genomes, mean: Floats, std: Floats, n: int) -> list[int]:
    """Indices of up to ``n`` rows: from the best by mean to the best by optimistic estimate, unlike each other."""
    chosen: list[int] = []
    apart = np.ones(len(pool), np.bool_)
    free = np.ones(len(pool), np.bool_)
    for optimism in np.linspace(0.0, OPTIMISM, n):
        if not free.any():
            break
        allowed = free & apart if (free & apart).any() else free
        index = int(np.argmax(np.where(allowed, mean + optimism * std, -np.inf)))
        chosen.append(index)
        free[index] = False
        apart &= (pool != pool[index]).sum(axis=1) >= LEAST_DIFFERENCE
    return chosen
