"""The default strategy: surrogate-assisted evolution under the budget.

A Gaussian process learns accuracy from what was evaluated; a vectorised evolution over its predictions and the latency
model proposes a batch; the batch is evaluated with real weights; and so on (after Jin 2011, "Surrogate-assisted
evolutionary computation", and Cai et al. 2020, Sec. 3.4, whose predictor is not updated).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwnas.search.accuracy import PREDICTORS, AccuracyPredictor
from hwnas.search.budget import Floats
from hwnas.search.evolution import Effort, evolve
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import POOL, BatchStrategy
from hwnas.spaces import Genomes

OPTIMISM = 1.5
"""Most optimistic member of a batch: it is chosen by mean + this many standard deviations."""
LEAST_DIFFERENCE = 2
"""Choices in which members of a batch differ, where the candidates allow it."""
LEVEL_EFFORT = Effort(islands=1, population=64, children=128, generations=12)
"""For one of the tightened budgets of a batch, among which the effort is divided."""


def surrogate_evolution(options: SearchOptions) -> Strategy:
    """The default strategy with a Gaussian process."""
    return FrontEvolution(options) if options.objective == "front" else SurrogateEvolution(options)


class SurrogateEvolution(BatchStrategy):
    """Evaluates batch after batch of what the surrogate thinks best or does not know.

    Attributes:
        near_budget: fraction of the greatest latency within the budget from which on the first candidates spread.
    """

    near_budget = 0.6

    def __init__(self, options: SearchOptions, predictor: str = "gaussian_process") -> None:
        super().__init__(options)
        self._predictor = predictor

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """The extremes within the budget, and a random sample spread over latency near it.

        Extreme are the most MACs, the most parameters, and the smallest subnet of all, which learns at every step of a
        sandwich and so is ahead of many larger ones where the supernet was trained for a short time.
        """
        screen = space.screen
        smallest = screen.space.encode([screen.space.smallest])
        sample = screen.sample(rng, POOL)
        most_macs = evolve(screen, screen.space.macs, rng, sample)
        most_params = evolve(screen, screen.space.params, rng, sample)
        extremes = distinct(np.concatenate([most_macs[:1], most_params[:1], smallest[screen.keeps(smallest)]]))
        pool = distinct(np.concatenate([sample, most_macs, most_params]))
        latency = screen.latency(pool)
        targets = np.linspace(
            latency.max(), max(latency.min(), self.near_budget * latency.max()), self._options.initial
        )
        spread = _nearest(latency, targets, rng)
        return distinct(np.concatenate([extremes, pool[spread]]))[: self._options.initial]

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """A batch; empty when no new architecture within the budget is found."""
        genomes, top1 = self._history(space)
        if len(genomes) < 2:
            return genomes
        predictor = PREDICTORS[self._predictor](space.screen.space)
        predictor.fit(genomes, top1)
        within = genomes[space.screen.keeps(genomes)]
        start = distinct(np.concatenate([within, space.screen.sample(rng, POOL)]))
        return self._propose(space, predictor, start, rng)

    def _propose(
        self, space: CandidateSpace, predictor: AccuracyPredictor, start: Genomes, rng: np.random.Generator
    ) -> Genomes:
        """Up to a batch of new architectures, by what the predictor has learned, from those of ``start`` on."""
        screen, size = space.screen, self._options.batch
        best = evolve(screen, _optimistic(predictor, 0.0), rng, start)
        promising = evolve(screen, _optimistic(predictor, OPTIMISM), rng, start)
        pool = space.unseen(distinct(np.concatenate([best, promising])))
        if len(pool) < size:
            pool = space.unseen(distinct(np.concatenate([pool, start])))
        return pool[_diverse(pool, *predictor.predict(pool), size)] if len(pool) else pool


class FrontEvolution(SurrogateEvolution):
    """The same at all levels of the budgets, which gives the whole front.

    Each member of a batch is the best that the surrogate knows within budgets that are tightened to what some
    architecture takes (the ε-constraint method, Haimes, Lasdon and Wismer 1971); these are spread over latency.
    """

    near_budget = 0.0

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """Beside those near the budget the one that is farthest below it."""
        first = super()._first(space, rng)
        return distinct(np.concatenate([space.screen.start, first]))[: self._options.initial]

    def _propose(
        self, space: CandidateSpace, predictor: AccuracyPredictor, start: Genomes, rng: np.random.Generator
    ) -> Genomes:
        start = distinct(np.concatenate([start, space.screen.start]))
        latency = space.screen.latency(start)
        size = min(self._options.batch, len(start))
        # One level at random within each of so many equal parts of the range.
        targets = latency.max() - (np.arange(size) + rng.random(size)) / size * (latency.max() - latency.min())
        optimism = rng.permutation(np.linspace(0.0, OPTIMISM, size))
        found: Genomes = start[:0]
        for level, weight in zip(_nearest(latency, targets, rng), optimism.tolist(), strict=True):
            screen = space.screen.tightened(start[[level]])
            within = start[screen.keeps(start)]
            survivors = space.unseen(evolve(screen, _optimistic(predictor, weight), rng, within, LEVEL_EFFORT))
            found = _with_one_more(found, survivors)
        return found


def _optimistic(predictor: AccuracyPredictor, weight: float) -> Callable[[Genomes], Floats]:
    """Mean accuracy and ``weight`` standard deviations of each row, [n]."""

    def score(genomes: Genomes) -> Floats:
        mean, std = predictor.predict(genomes)
        return mean + weight * std

    return score


def _with_one_more(found: Genomes, candidates: Genomes) -> Genomes:
    """``found`` and the first candidate that is not among them, if there is one."""
    return distinct(np.concatenate([found, candidates]))[: len(found) + 1]


def _nearest(latency: Floats, targets: Floats, rng: np.random.Generator) -> list[int]:
    """Indices of different entries that are the nearest to each target, as far as they reach; ties at random."""
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
