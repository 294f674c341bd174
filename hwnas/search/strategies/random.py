"""Random architectures within the budget: what every other strategy must beat (Li and Talwalkar 2019)."""

from __future__ import annotations

import numpy as np

from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.strategies.batches import BatchStrategy, fresh
from hwnas.spaces import Genomes


def random(options: SearchOptions) -> Strategy:
    """Random architectures within the budget."""
    return Random(options)


class Random(BatchStrategy):
    """Learns nothing."""

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        return fresh(space, rng, self._options.batch)
