"""Prediction of accuracy from a few evaluated architectures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from hwnas.search.budget import Floats
from hwnas.search.record import Evaluation
from hwnas.spaces import Genomes, Space

LEAST_FOR_TAU = 10
FOLDS = 5


class AccuracyPredictor(Protocol):
    """Learns accuracy from evaluated architectures; deterministic."""

    def fit(self, genomes: Genomes, top1: Floats) -> None:
        """Forget what was learned and learn from [n, choices] and [n], n ≥ 2."""

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the expected accuracy of each row, each [n]."""


class GaussianProcess:
    """A Gaussian process with a squared exponential kernel and noise (Rasmussen and Williams 2006, Sec. 2.2, 5.4.1).

    Its features know the depth: each choice by the rank of its value, with an inactive block below the smallest
    active one, beside the logarithms of the multiply-accumulates and of the parameters.  On the published ImageNet
    accuracies of once-for-all subnets these features rank better than one-hot ones, and this model better than
    Bayesian ridge regression, from 24 to 250 training subnets.
    """

    def __init__(self, space: Space) -> None:
        # scikit-learn takes seconds to import, which commands that only read a search shall not wait for.
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        self._space = space
        self._sizes = np.array([len(choice.values) for choice in space.choices], np.float64)
        features = len(space.choices) + 2
        self._kernel = ConstantKernel(1.0, (1e-2, 1e3)) * RBF(np.sqrt(features), (0.5, 1e3)) + WhiteKernel(
            0.1, (1e-4, 1e1)
        )

    def fit(self, genomes: Genomes, top1: Floats) -> None:
        """Choose the kernel's parameters by marginal likelihood and condition on the data."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor

        features = self._features(genomes)
        self._offset, self._scale = features.mean(axis=0), _positive(features.std(axis=0))
        self._mean, self._std = float(top1.mean()), float(_positive(top1.std()))
        self._model = GaussianProcessRegressor(self._kernel, random_state=0)
        # One thread: the order of summation, and with it the last bits, depend on their number.
        with _threads().limit(limits=1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is a usable parameter
            self._model.fit((features - self._offset) / self._scale, (top1 - self._mean) / self._std)
        # The spread wanted is that of the accuracy itself, not of another noisy evaluation of it.
        self._noise = float(self._model.kernel_.k2.noise_level)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Posterior mean and standard deviation of the noise-free accuracy."""
        with _threads().limit(limits=1):
            mean, std = self._model.predict((self._features(genomes) - self._offset) / self._scale, return_std=True)
        noiseless = np.sqrt(np.maximum(std**2 - self._noise, 0.0))
        return mean * self._std + self._mean, noiseless * self._std

    def _features(self, genomes: Genomes) -> Floats:
        sizes = np.stack([np.log(self._space.macs(genomes)), np.log(self._space.params(genomes))], axis=1)
        return np.hstack([(genomes + 1) / self._sizes, sizes])


@cache
def _threads() -> ThreadpoolController:
    """Of the linear algebra that scikit-learn has loaded; looking for its libraries takes longer than a prediction."""
    return ThreadpoolController()


def taught(space: Space, evaluations: Sequence[Evaluation]) -> GaussianProcess | None:
    """What evaluations teach; None from fewer than two."""
    if len(evaluations) < 2:
        return None
    predictor = GaussianProcess(space)
    genomes = space.encode([evaluation.architecture for evaluation in evaluations])
    predictor.fit(genomes, np.array([evaluation.top1 for evaluation in evaluations]))
    return predictor


def cross_validated_tau(predictor: AccuracyPredictor, genomes: Genomes, top1: Floats) -> float | None:
    """Kendall's τ of predictions for evaluations held out: each fifth one, from all the others.

    Args:
        genomes, top1: [n, choices] and [n].

    Returns:
        τ over all n, None for fewer than 10 or none that differ.
    """
    if len(top1) < LEAST_FOR_TAU:
        return None
    predicted = np.empty(len(top1))
    folds = np.arange(len(top1)) % FOLDS
    for fold in range(FOLDS):
        predictor.fit(genomes[folds != fold], top1[folds != fold])
        predicted[folds == fold] = predictor.predict(genomes[folds == fold])[0]
    return _kendall_tau(predicted, top1)


def prequential_tau(
    predictor: AccuracyPredictor, genomes: Genomes, top1: Floats, blocks: Sequence[int]
) -> tuple[float | None, int]:
    """Kendall's τ of predictions made before the evaluations that they are compared with (Dawid 1984).

    Args:
        genomes, top1: evaluations in their order, [n, choices] and [n].
        blocks: ascending indices less than n; the evaluations from one to the next are predicted from all before.

    Returns:
        τ over all predicted evaluations together, None for fewer than 10 or none that differ, and their number.
    """
    predicted: list[npt.NDArray[np.float64]] = []
    for start, end in pairwise([*blocks, len(top1)]):
        if start >= 2:
            predictor.fit(genomes[:start], top1[:start])
            predicted.append(predictor.predict(genomes[start:end])[0])
    n = sum(map(len, predicted))
    if n < LEAST_FOR_TAU:
        return None, n
    return _kendall_tau(np.concatenate(predicted), top1[-n:]), n


def _kendall_tau(predicted: Floats, found: Floats) -> float | None:
    from scipy.stats import kendalltau

    tau = float(kendalltau(predicted, found).statistic)
    return None if np.isnan(tau) else tau


def _positive(spread: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Standard deviations with 1 for 0, to divide by."""
    values = np.asarray(spread, np.float64)
    return np.where(values > 0, values, 1.0)


PREDICTORS: dict[str, Callable[[Space], AccuracyPredictor]] = {"gaussian_process": GaussianProcess}
"""A new predictor is a new class and one line here."""
