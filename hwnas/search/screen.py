"""Which architectures keep all budgets, and drawing such ones: everything on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Budget, Floats, LatencyPredictor
from hwnas.search.constraints import Constraint, worst_excess
from hwnas.spaces import Genomes, Space

ROUNDING = 1e-9
"""Relative difference that the prediction of one architecture may have in another batch of them."""
DRAW = 4096
MAX_DRAWS = 16
MAX_WALKS = 64


@dataclass(frozen=True)
class Screen:
    """Budgets applied to a space: that of a latency, which is promised, and others.

    Attributes:
        start: an architecture that keeps all budgets, [1, choices].
        others: further constraints.
    """

    space: Space
    latency_model: LatencyPredictor
    budget: Budget
    start: Genomes
    others: Sequence[Constraint] = field(default=())

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """All of them, that of the promised latency first."""
        return (Constraint(self.budget, self.latency_model), *self.others)

    def keeps(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which rows keep every budget by the upper side of their predictions, [n]."""
        first, *others = self.constraints
        keeps = first.keeps(genomes)
        for constraint in others:
            keeps &= constraint.keeps(genomes)
        return keeps

    def excess(self, genomes: Genomes) -> Floats:
        """How far each row's upper side is over the budget that it breaks most, as a fraction of its limit, [n].

        At most 0 where it keeps all.
        """
        return worst_excess(self.constraints, genomes)

    def latency(self, genomes: Genomes) -> Floats:
        """Predicted mean latency of each row in ms, [n]."""
        return self.latency_model.predict(genomes)[0]

    def tightened(self, genome: Genomes) -> Screen:
        """The same with every limit lowered to what this architecture, [1, choices], which keeps them, takes of it."""
        first, *others = (
            replace(
                constraint,
                budget=replace(
                    constraint.budget,
                    limit=min(constraint.budget.limit, float(constraint.upper(genome)[0]) * (1 + ROUNDING)),
                ),
            )
            for constraint in self.constraints
        )
        return replace(self, budget=first.budget, start=genome, others=tuple(others))

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """Up to ``n`` distinct random architectures that keep the budgets, at least one.

        Uniform by rejection where one in some thousand is accepted.  Under a tighter budget what is missing comes
        from random walks of mutations that start at those found and at ``start``, and is no longer uniform.
        """
        found: Genomes = self.start[:0]
        for _ in range(MAX_DRAWS):
            drawn = self.space.sample(rng, DRAW)
            found = distinct(np.concatenate([found, drawn[self.keeps(drawn)]]))
            if len(found) >= n:
                return found[:n]
        found = distinct(np.concatenate([found, self.start]))
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
