"""Bayesian optimisation: a Gaussian process and expected improvement (Jones, Schonlau and Welch 1998, EGO).

A batch is filled by the kriging believer (Ginsbourger, Le Riche and Carraro 2010): each member is chosen as if those
before it had turned out as predicted.  The default strategy learns with the same process, but takes its batch from
between the best mean and the best optimistic estimate, from different neighbourhoods, and begins with the largest
networks within the budget and a sample spread over latency; here expected improvement alone decides, from a random
beginning.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from hwnas.search.accuracy import GaussianProcess
from hwnas.search.budget import Floats
from hwnas.search.evolution import evolve
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import POOL, BatchStrategy
from hwnas.spaces import Genomes


def bayesian_optimisation(options: SearchOptions) -> Strategy:
    """A Gaussian process with expected improvement."""
    return BayesianOptimisation(options)


class BayesianOptimisation(BatchStrategy):
    """Evaluates where the expected improvement is greatest; a vectorised evolution under the budget finds that."""

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        screen = space.screen
        genomes, top1 = self._history(space)
        if len(genomes) < 2:
            return genomes
        start = distinct(np.concatenate([genomes[screen.keeps(genomes)], screen.sample(rng, POOL)]))
        process = GaussianProcess(screen.space)
        batch: Genomes = genomes[:0]
        for _ in range(self._options.batch):
            believed = process.predict(batch)[0] if len(batch) else np.empty(0)
            process.fit(np.concatenate([genomes, batch]), np.append(top1, believed))
            chosen = self._most_promising(space, process, rng, start, batch)
            if not len(chosen):
                break
            batch = np.concatenate([batch, chosen])
        return batch

    def _most_promising(
        self,
        space: CandidateSpace,
        process: GaussianProcess,
        rng: np.random.Generator,
        start: Genomes,
        batch: Genomes,
    ) -> Genomes:
        """The new architecture of greatest expected improvement, [1, choices], or none."""
        # Evaluations are noisy: what must be improved on is the best mean, not the luckiest evaluation.
        known, _ = self._history(space)
        within = known[space.screen.keeps(known)]
        incumbent = float(process.predict(within if len(within) else start)[0].max())

        def score(rows: Genomes) -> Floats:
            return expected_improvement(*process.predict(rows), incumbent)

        taken = {row.tobytes() for row in batch}
        found = space.unseen(distinct(np.concatenate([evolve(space.screen, score, rng, start), start])))
        return found[[row.tobytes() not in taken for row in found]][:1]


def expected_improvement(mean: Floats, std: Floats, incumbent: float) -> Floats:
    """By how much normal variables exceed a value, where they do, times the probability that they do, [n]."""
    spread = np.maximum(std, 1e-12)
    z = (mean - incumbent) / spread
    return np.asarray(spread * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)))
