"""Bayesian linear regression whose coefficients come in groups, each as wide as the data say that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.latency.base import Floats
from hwnas.latency.figures import NORMAL_95

PRIOR_NOISE = 0.03
"""Deviation of an observation that is expected before any is seen; the targets are relative."""
_PRIOR_WIDTH = 1.0
"""Of every logarithm of a deviation, its standard deviation before any observation."""
_LOG_BOUNDS = (-9.0, 1.0)
_FREEDOM = 3.0
"""Degrees of freedom of the noise, Student's: a device that someone else uses spoils some measurements wholly."""
_ROUNDS = 3
"""Of fitting the deviations and weighing the observations in turn."""
_SUBSET = 300
"""Most observations by which the deviations are fitted, which costs their cube; all enter the posterior itself."""


@dataclass(frozen=True)
class GroupedPosterior:
    """Coefficients [k], normally distributed, and the noise of an observation."""

    mean: Floats
    covariance: Floats
    """[k, k]."""
    noise: float
    """Standard deviation of an observation that is not spoilt."""
    stretch: float
    """By what a stated deviation is to be multiplied, so that observations left out lie within 1.96 of it."""


def fit_groups(features: Floats, groups: npt.NDArray[np.intp], widths: Floats, targets: Floats) -> GroupedPosterior:
    """The posterior of ``targets`` [n] given ``features`` [n, k], n ≥ 2.

    Args:
        groups: of each feature, its group, [k].
        widths: of each group, the standard deviation of its coefficients that is likely beforehand.

    The deviations of groups and noise maximise the evidence (MacKay 1992, "Bayesian Interpolation") times a
    log-normal prior; Student's noise is a normal one whose weights are estimated (Gelman et al., BDA3, Sec. 17.2).
    """
    grams = np.stack([_gram(features[:, groups == group]) for group in range(len(widths))])
    prior = np.log(np.append(widths, PRIOR_NOISE))
    subset = np.random.default_rng(0).permutation(len(targets))[:_SUBSET]
    logs, weights = prior, np.ones(len(targets))
    for last in [False] * (_ROUNDS - 1) + [True]:
        some = grams[:, subset[:, None], subset]
        logs = _most_evident(logs, prior, some, targets[subset], weights[subset])
        variances = np.exp(2 * logs)
        noises = variances[-1] / weights
        inverse = np.linalg.inv(np.tensordot(variances[:-1], grams, 1) + np.diag(noises))
        pull = inverse @ targets
        if not last:
            expected = (noises * pull) ** 2 + noises - noises**2 * np.diag(inverse)
            weights = (_FREEDOM + 1) / (_FREEDOM + expected / variances[-1])
    prior_variances = variances[groups]
    precision = np.diag(1 / prior_variances) + (features.T / noises) @ features
    return GroupedPosterior(
        mean=prior_variances * (features.T @ pull),
        covariance=np.asarray(np.linalg.inv(precision), np.float64),
        noise=float(np.sqrt(variances[-1])),
        stretch=_stretch(pull, np.diag(inverse), noises, variances[-1]),
    )


def _gram(features: Floats) -> Floats:
    return np.asarray(features @ features.T, np.float64)


def _most_evident(start: Floats, prior: Floats, grams: Floats, targets: Floats, weights: Floats) -> Floats:
    """Logarithms of the groups' deviations and the noise's, [groups + 1], that make the targets most probable."""
    from scipy.optimize import minimize

    def surprise(logs: Floats) -> tuple[float, Floats]:
        variances = np.exp(2 * logs)
        covariance = np.tensordot(variances[:-1], grams, 1) + np.diag(variances[-1] / weights)
        inverse = np.linalg.inv(covariance)
        pull = inverse @ targets
        away = (logs - prior) / _PRIOR_WIDTH
        value = 0.5 * targets @ pull + 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * away @ away
        slope = inverse - np.outer(pull, pull)
        by_group = np.append(np.einsum("ij,gij->g", slope, grams), np.diag(slope) @ (1 / weights))
        return float(value), by_group * variances + away / _PRIOR_WIDTH

    bounds: Sequence[Any] = [_LOG_BOUNDS] * len(start)
    fitted = minimize(surprise, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    return np.asarray(fitted.x, np.float64)


def _stretch(pull: Floats, precisions: Floats, noises: Floats, noise: float) -> float:
    """From observations left out one by one (Rasmussen and Williams 2006, Eq. 5.12), whose tails may be heavy."""
    from scipy import stats

    n = len(pull)
    variance = np.maximum(1 / precisions - noises, 0) + noise
    distances = np.sort(np.abs(pull / precisions) / np.sqrt(variance))
    at = min(int(np.ceil(0.95 * (n + 1))), n) - 1
    return float(max(1.0, distances[at] / NORMAL_95) * stats.t.ppf(0.975, n - 1) / NORMAL_95)
