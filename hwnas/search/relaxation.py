"""Choices relaxed to probabilities, and accuracy and excess as differentiable functions of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from hwnas.search.budget import Floats
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes, Space

MEMBERS = 8
HIDDEN = 32
STEPS = 200
LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.05
RIDGE = 1e-3
SAMPLE = 4096
"""Random architectures that the additive excess is fitted to."""


class Relaxation:
    """Every choice as a softmax over its values, a child counting as much as its parent activates it.

    The relaxed features are the expectation of :meth:`Space.one_hot`, in its order, and at a temperature near 0 equal
    those of one architecture.
    """

    def __init__(self, space: Space) -> None:
        sizes = [len(choice.values) for choice in space.choices]
        self._sizes = sizes
        self._starts = np.cumsum([0, *sizes]).tolist()
        self._parents = [
            (space.position(choice.parent), choice.active_from) if choice.parent else None for choice in space.choices
        ]

    @property
    def features(self) -> int:
        """Entries of the features."""
        return int(self._starts[-1])

    def __call__(self, logits: Tensor, temperature: float) -> Tensor:
        """Expected one-hot features [n, features] of logits [n, features]."""
        parts = torch.split(logits / temperature, self._sizes, dim=1)
        chances = [part.softmax(dim=1) for part in parts]
        expected = []
        for parent, chance in zip(self._parents, chances, strict=True):
            if parent is None:
                expected.append(chance)
            else:
                column, active_from = parent
                expected.append(chance * chances[column][:, active_from:].sum(dim=1, keepdim=True))
        return torch.cat(expected, dim=1)

    def likeliest(self, logits: Tensor) -> Genomes:
        """The likeliest value of every choice, [n, choices]; not canonical."""
        parts = torch.split(logits.detach(), self._sizes, dim=1)
        return np.stack([part.argmax(dim=1).numpy() for part in parts], axis=1).astype(np.int8)


class Ensemble:
    """Small perceptrons on one-hot features, each with other beginnings and other weights of the data."""

    def __init__(self, space: Space, genomes: Genomes, top1: Floats, seed: int) -> None:
        """Learn from [n, choices] and [n], n ≥ 2."""
        self._space = space
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.from_numpy(space.one_hot(genomes))
        self._mean, self._spread = float(top1.mean()), float(top1.std()) or 1.0
        targets = torch.from_numpy((top1 - self._mean) / self._spread).float()
        features = inputs.shape[1]
        self._layers = [
            torch.randn((MEMBERS, features, HIDDEN), generator=generator) * (2 / len(space.choices)) ** 0.5,
            torch.zeros((MEMBERS, 1, HIDDEN)),
            torch.randn((MEMBERS, HIDDEN, 1), generator=generator) * (1 / HIDDEN) ** 0.5,
            torch.zeros((MEMBERS, 1, 1)),
        ]
        # The Bayesian bootstrap (Rubin 1981).
        weights = torch.empty((MEMBERS, len(targets))).exponential_(generator=generator)
        optimizer = torch.optim.AdamW(
            [layer.requires_grad_() for layer in self._layers], LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = (weights * (self._members(inputs) - targets) ** 2).mean(dim=1).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self._layers = [layer.detach() for layer in self._layers]

    def __call__(self, features: Tensor) -> Tensor:
        """Mean of the members in standard deviations of the data, [n], of features [n, features]."""
        return self._members(features).mean(dim=0)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and spread of the members' accuracies for each row of [n, choices], each [n]."""
        members = self._members(torch.from_numpy(self._space.one_hot(genomes))).double() * self._spread + self._mean
        return members.mean(dim=0).numpy(), members.std(dim=0).numpy()

    def _members(self, features: Tensor) -> Tensor:
        """[members, n]."""
        first, first_bias, second, second_bias = self._layers
        hidden = torch.nn.functional.silu(torch.matmul(features, first) + first_bias)
        outputs: Tensor = torch.matmul(hidden, second) + second_bias
        return outputs.squeeze(2)


class AdditiveExcess:
    """The excess over the budget as a product of a factor for each value, fitted to the screen by ridge regression."""

    def __init__(self, screen: Screen, rng: np.random.Generator, others: Genomes) -> None:
        """Fit to random architectures and to [n, choices] others."""
        genomes = np.concatenate([screen.space.sample(rng, SAMPLE), others])
        inputs = np.hstack([screen.space.one_hot(genomes).astype(np.float64), np.ones((len(genomes), 1))])
        targets = np.log1p(np.maximum(screen.excess(genomes), -0.99))
        normal = inputs.T @ inputs + RIDGE * len(genomes) * np.eye(inputs.shape[1]) / inputs.shape[1]
        solution = np.linalg.solve(normal, inputs.T @ targets)
        self._weights = torch.from_numpy(solution[:-1]).float()
        self._constant = float(solution[-1])

    def __call__(self, features: Tensor) -> Tensor:
        """Logarithm of the predicted quantity over the limit, [n], of features [n, features]; 0 at the budget."""
        logarithm: Tensor = torch.matmul(features, self._weights) + self._constant
        return logarithm


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: the order of summation, and with it the last bits, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
