"""Particle swarm optimisation on the ranks of the values (Kennedy and Eberhart 1995; constriction by Clerc and Kennedy
2002), where an architecture over the budget is worse than any within it (the rules of Deb 2000)."""

from __future__ import annotations

import numpy as np

from hwnas.search.budget import Floats
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import Candidate, CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes

CONSTRICTION = 0.7298
ATTRACTION = 2.05
"""Of a particle by the best place it has seen, and by the best that all have."""
MOST_SPEED = 0.5
"""In a step, as a fraction of the range of a choice."""
PATIENCE = 100
"""Moves in a row without a new architecture within the budget after which the swarm flies on from random ones."""


def particle_swarm(options: SearchOptions) -> Strategy:
    """A swarm of as many particles as a batch has candidates."""
    return ParticleSwarm(options)


class ParticleSwarm(BatchStrategy):
    """Particles in the unit cube with an axis for each choice, cut into as many equal parts as it has values.

    A move that leads over the budget, or to where the accuracy is known, costs no evaluation.
    """

    def __init__(self, options: SearchOptions) -> None:
        super().__init__(options)
        self._places = np.empty((0, 0))
        self._speeds = np.empty((0, 0))
        self._best_places = np.empty((0, 0))
        self._best = np.empty(0)
        self._lost = False

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        if not len(self._places):
            self._start(space, rng)
        elif self._lost:
            self._scatter(space, rng)
        for _ in range(PATIENCE):
            self._move(rng)
            genomes = self._genomes(space)
            new = np.isnan(self._note(space, genomes))
            if new.any():
                return genomes[new]
        self._lost = True
        return self._genomes(space)[:0]

    def _learn(self, space: CandidateSpace, batch: list[Candidate]) -> None:
        del batch
        if len(self._places):
            self._note(space, self._genomes(space))

    def _start(self, space: CandidateSpace, rng: np.random.Generator) -> None:
        """The best that are known, at rest."""
        genomes, _ = self._history(space)
        fitness = self._fitness(space, genomes)
        order = np.argsort(-fitness, kind="stable")[: self._options.batch]
        self._places = self._at(space, genomes[order], rng)
        self._best_places = self._places.copy()
        self._best = fitness[order]
        self._speeds = np.zeros_like(self._places)

    def _scatter(self, space: CandidateSpace, rng: np.random.Generator) -> None:
        """All particles to random places, with what they remember."""
        genomes = space.screen.sample(rng, len(self._places))
        self._places[: len(genomes)] = self._at(space, genomes, rng)
        self._speeds = np.zeros_like(self._places)
        self._lost = False

    def _move(self, rng: np.random.Generator) -> None:
        """Every particle by its constricted speed; the walls of the cube stop it."""
        own, swarm = ATTRACTION * rng.random((2, *self._places.shape))
        leader = self._best_places[int(np.argmax(self._best))]
        pull = own * (self._best_places - self._places) + swarm * (leader - self._places)
        self._speeds = np.clip(CONSTRICTION * (self._speeds + pull), -MOST_SPEED, MOST_SPEED)
        moved = self._places + self._speeds
        self._places = np.clip(moved, 0.0, np.nextafter(1.0, 0.0))
        self._speeds = np.where(moved == self._places, self._speeds, 0.0)

    def _note(self, space: CandidateSpace, genomes: Genomes) -> Floats:
        """The fitness of the particles, NaN where not known, [n]; the best places of those that improve are renewed."""
        fitness = self._fitness(space, genomes)
        better = fitness > self._best  # false for NaN
        self._best = np.where(better, fitness, self._best)
        self._best_places = np.where(better[:, None], self._places, self._best_places)
        return fitness

    def _genomes(self, space: CandidateSpace) -> Genomes:
        sizes = np.array([len(choice.values) for choice in space.screen.space.choices])
        return space.screen.space.canonical((self._places * sizes).astype(np.int8))

    def _at(self, space: CandidateSpace, genomes: Genomes, rng: np.random.Generator) -> Floats:
        """A random place [n, choices] in the cell of each architecture; anywhere along inactive choices."""
        sizes = np.array([len(choice.values) for choice in space.screen.space.choices])
        within = rng.random(genomes.shape)
        return np.where(genomes >= 0, (genomes + within) / sizes, within)
