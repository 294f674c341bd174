"""What all strategies have in common: batch after batch is proposed, evaluated by NNI's engine, and learned from."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from hwnas.search.budget import Floats
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import Candidate, CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.spaces import Genomes

POOL = 1024
"""Architectures drawn at a time for random ones."""
MAX_POOLS = 3
"""Pools in a row without a new architecture after which the space counts as exhausted."""


class BatchStrategy(Strategy):  # type: ignore[misc]
    """A strategy in synchronous generations.

    A batch is submitted whole and its accuracies are read in the order of proposal when all are there, so that an
    engine that evaluates several at once visits the same candidates as one that does not.  A proposal that is over the
    budget or was evaluated before is passed over; a generation without a new one is made of random architectures; and
    the strategy ends when these are at an end as well.  Every generation has its own random numbers.
    """

    def __init__(self, options: SearchOptions) -> None:
        super().__init__()
        self._options = options
        self._evaluated: list[Candidate] = []

    @abstractmethod
    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """Proposals in the order of preference, [n, choices]; the first ``batch`` that are new are evaluated."""

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        """What is evaluated before anything is learned, unless enough is known already: random architectures."""
        return fresh(space, rng, self._options.initial)

    def _learn(self, space: CandidateSpace, batch: list[Candidate]) -> None:
        """Take note of a batch that was evaluated; nothing, where all is read from :meth:`_history`."""
        del space, batch

    def _run(self) -> None:
        space: CandidateSpace = self.model_space
        generation = 0
        if len(space.known[0]) < 2:
            rng = np.random.default_rng([self._options.seed, 0])
            if not self._evaluate(space, self._first(space, rng), "initial"):
                self._evaluate(space, fresh(space, rng, self._options.initial), "initial")
        if not len(space.known[0]) and not self._evaluated:
            return
        while self.engine.budget_available():
            generation += 1
            rng = np.random.default_rng([self._options.seed, generation])
            if self._evaluate(space, self._next(space, rng), f"generation {generation}"):
                continue
            if not self._evaluate(space, fresh(space, rng, self._options.batch), "random"):
                return

    def _evaluate(self, space: CandidateSpace, genomes: Genomes, origin: str) -> bool:
        """Evaluate what is new of [n, choices]; whether there was any."""
        left = self._options.evaluations - len(self._evaluated)
        most = left if origin == "initial" else min(left, self._options.batch)
        new = genomes[space.screen.keeps(genomes)] if len(genomes) else genomes
        batch = space.candidates(distinct(space.unseen(new))[:most], origin)
        if not batch:
            return False
        self.engine.submit_models(*batch)
        self.engine.wait_models(*batch)
        self._evaluated += batch
        self._learn(space, batch)
        return True

    def _history(self, space: CandidateSpace) -> tuple[Genomes, Floats]:
        """All architectures whose accuracy is known, oldest first, and their top-1; some may be over the budget."""
        genomes = np.concatenate([space.known[0], *(candidate.genome for candidate in self._evaluated)])
        return genomes, np.append(space.known[1], [candidate.top1 for candidate in self._evaluated])

    def _fitness(self, space: CandidateSpace, genomes: Genomes) -> Floats:
        """The top-1 of each row where it is known, minus its excess where it is over the budget, else NaN, [n].

        So any architecture within the budget ranks above all others, and these by how near they are (Deb 2000).
        """
        known, top1 = self._history(space)
        of = {row.tobytes(): accuracy for row, accuracy in zip(known, top1.tolist(), strict=True)}
        excess = space.screen.excess(genomes)
        found = np.array([of.get(row.tobytes(), np.nan) for row in genomes])
        return np.where(space.screen.keeps(genomes), found, -np.maximum(excess, 0.0))


def fresh(space: CandidateSpace, rng: np.random.Generator, n: int) -> Genomes:
    """Up to ``n`` random architectures within the budget that were not evaluated; if none, the space is exhausted."""
    found: Genomes = space.screen.start[:0]
    for _ in range(MAX_POOLS):
        found = distinct(np.concatenate([found, space.unseen(space.screen.sample(rng, POOL))]))
        if len(found) >= n:
            return found[:n]
    space.exhausted = not len(found)
    return found
