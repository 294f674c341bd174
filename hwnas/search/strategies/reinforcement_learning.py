"""Reinforcement learning: a policy that draws architectures, moved along the gradient of their expected reward.

REINFORCE with a moving baseline (Williams 1992), as in neural architecture search with reinforcement learning (Zoph and
Le 2017), and an entropy bonus.  The reward is the accuracy of what keeps the budget and a penalty that grows with the
excess of what does not (after MnasNet, Tan et al. 2019, Sec. 3.1, whose soft constraint this makes a hard one).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwnas.search.budget import Floats
from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import Candidate, CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes, Space

DRAW = 64
"""Architectures drawn from the policy at a time."""
PATIENCE = 50
"""Draws in a row without a new architecture within the budget after which random ones are evaluated."""
LEARNING_RATE = 0.1
DECAY = 0.9, 0.99
"""Of Adam's moments; the second is short, since there are few steps."""
ENTROPY = 0.02
"""Weight of the policy's entropy beside a reward of unit spread."""
BASELINE_DECAY = 0.8
MOST_EXCESS = 2.0
"""Excess over the budget beyond which the penalty does not grow."""


def reinforcement_learning(options: SearchOptions) -> Strategy:
    """REINFORCE."""
    return Reinforce(options)


class Reinforce(BatchStrategy):
    """Draws from its policy until a batch is new and keeps the budget, then learns from all that it drew.

    What is over the budget is known to be so without an evaluation, and what is drawn again has its accuracy already.
    """

    def __init__(self, options: SearchOptions) -> None:
        super().__init__(options)
        self._policy: Policy | None = None
        self._drawn: Genomes = np.empty((0, 0), np.int8)
        self._baseline = 0.0

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        self._policy = self._policy or Policy(space.screen.space)
        for _ in range(PATIENCE):
            drawn = self._policy.sample(rng, DRAW)
            new = np.flatnonzero(np.isnan(self._fitness(space, drawn)))
            if len(new):
                # What was drawn after the batch was full is forgotten, lest those over the budget outweigh the others.
                last = new[self._options.batch - 1] if len(new) >= self._options.batch else DRAW - 1
                self._drawn = drawn[: last + 1]
                return drawn[new[: self._options.batch]]
            self._reinforce(space, drawn)
        return drawn[:0]

    def _learn(self, space: CandidateSpace, batch: list[Candidate]) -> None:
        """Random architectures within the budget are what the first, uniform policy draws, and teach it as well."""
        if self._policy is None or not len(self._drawn):
            self._policy = self._policy or Policy(space.screen.space)
            self._drawn = np.concatenate([candidate.genome for candidate in batch])
        self._reinforce(space, self._drawn)
        self._drawn = self._drawn[:0]

    def _reinforce(self, space: CandidateSpace, drawn: Genomes) -> None:
        """One step of the policy by what is known of [n, choices]."""
        fitness = self._fitness(space, drawn)
        known = ~np.isnan(fitness)
        if not known.any():
            return
        assert self._policy is not None
        rewards = self._rewards(space, fitness[known])
        self._policy.step(drawn[known], rewards - self._baseline)
        self._baseline += (1 - BASELINE_DECAY) * (float(rewards.mean()) - self._baseline)

    def _rewards(self, space: CandidateSpace, fitness: Floats) -> Floats:
        """Accuracies in standard deviations of those evaluated; less than almost all of these where over the budget."""
        _, top1 = self._history(space)
        mean, spread = (float(top1.mean()), float(top1.std()) or 1.0) if len(top1) else (0.0, 1.0)
        within = np.clip((fitness - mean) / spread, -2.0, 2.0)
        return np.where(fitness > 0, within, -2.0 + np.clip(fitness, -MOST_EXCESS, 0.0))


class Policy:
    """A categorical distribution of every choice, given the value of its parent; uniform at first."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._parents = [space.position(choice.parent) if choice.parent else None for choice in space.choices]
        rows = [1 if parent is None else len(space.choices[parent].values) for parent in self._parents]
        self.logits = [np.zeros((n, len(c.values))) for n, c in zip(rows, space.choices, strict=True)]
        self._moments = [(np.zeros_like(logits), np.zeros_like(logits)) for logits in self.logits]
        self._steps = 0

    def sample(self, rng: np.random.Generator, n: int) -> Genomes:
        """``n`` architectures."""
        genomes = np.zeros((n, len(self.logits)), np.int8)
        for j, logits in enumerate(self.logits):  # parents come before their children
            noise = rng.gumbel(size=(n, logits.shape[1]))
            genomes[:, j] = np.argmax(logits[self._rows(genomes, j)] + noise, axis=1)
        return self._space.canonical(genomes)

    def step(self, genomes: Genomes, advantages: Floats) -> None:
        """Make rows of [n, choices] likelier by their advantages [n]: one step of Adam (Kingma and Ba 2015) upwards."""
        self._steps += 1
        first, second = DECAY
        for j, (mean, square) in enumerate(self._moments):
            gradient = self._gradient(genomes, advantages, j)
            mean[:] = first * mean + (1 - first) * gradient
            square[:] = second * square + (1 - second) * gradient**2
            unbiased = mean / (1 - first**self._steps), square / (1 - second**self._steps)
            self.logits[j] += LEARNING_RATE * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)

    def _gradient(self, genomes: Genomes, advantages: Floats, j: int) -> Floats:
        """Of the mean of advantage · log-probability, and of the entropy, by the logits of a choice."""
        logits = self.logits[j]
        chances = _softmax(logits)
        active = genomes[:, j] >= 0
        rows, genes, weights = self._rows(genomes, j)[active], genomes[active, j], advantages[active]
        gradient = np.zeros_like(logits)
        np.add.at(gradient, (rows, genes), weights)
        np.add.at(gradient, rows, -weights[:, None] * chances[rows])
        surprise = -np.log(chances)
        entropy = (chances * surprise).sum(axis=1, keepdims=True)
        return np.asarray(gradient / len(genomes) + ENTROPY * chances * (surprise - entropy))

    def _rows(self, genomes: Genomes, j: int) -> npt.NDArray[np.intp]:
        parent = self._parents[j]
        return np.zeros(len(genomes), np.intp) if parent is None else genomes[:, parent].astype(np.intp)


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
