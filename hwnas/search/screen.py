"""Which architectures keep the budget, and drawing such ones: everything on arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Budget, Floats, LatencyPredictor
from hwnas.spaces import Genomes, Space

DRAW = 4096
MAX_DRAWS = 16
MAX_WALKS = 64


@dataclass(frozen=True)
class Screen:
    """A budget applied to a space by a latency model.

    Attributes:
        fastest: the fastest architecture, [1, choices]; it keeps the budget.
    """

    space: Space
    latency_model: LatencyPredictor
    budget: Budget
    fastest: Genomes

    def keeps(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which rows keep the budget by the latency model's upper side, [n]."""
        return self.budget.keeps(*self.latency_model.predict(genomes))

    def excess(self, genomes: Genomes) -> Floats:
        """How far each row's upper side is over the budget, as a fraction of the limit, [n]; ≤ 0 where it is not."""
        return self.budget.upper(*self.latency_model.predict(genomes)) / self.budget.limit - 1

    def latency(self, genomes: Genomes) -> Floats:
        """Predicted mean latency of each row in ms, [n]."""
        return self.latency_model.predict(genomes)[0]

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """Up to ``n`` distinct random architectures that keep the budget, at least one.

        Uniform by rejection where one in some thousand is accepted.  Under a tighter budget what is missing comes
        from random walks of mutations that start at those found and at the fastest, and is no longer uniform.
        """
        found: Genomes = self.fastest[:0]
        for _ in range(MAX_DRAWS):
            drawn = self.space.sample(rng, DRAW)
            found = distinct(np.concatenate([found, drawn[self.keeps(drawn)]]))
            if len(found) >= n:
                return found[:n]
        found = distinct(np.concatenate([found, self.fastest]))
        for _ in range(MAX_WALKS):
            children = self.space.mutate(rng, found[rng.integers(len(found), size=DRAW // 4)])
            found = distinct(np.concatenate([found, children[self.keeps(children)]]))
            if len(found) >= 4 * n:  # more than asked for, so that the start is left behind
                break
        return found[rng.permutation(len(found))[:n]]


def first_rows(genomes: Genomes) -> npt.NDArray[np.intp]:
    """Indices of the rows that have no equal before them, ascending."""
    rows = np.ascontiguousarray(genomes).view(np.dtype((np.void, genomes.shape[1]))).ravel()
    return np.sort(np.unique(rows, return_index=True)[1])


def distinct(genomes: Genomes) -> Genomes:
    """The rows without repetitions, in order of first appearance."""
    return np.asarray(genomes[first_rows(genomes)])
