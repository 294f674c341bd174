"""Bayesian linear regression with unknown noise, robust to a few wild observations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hwnas.latency.base import Floats
from hwnas.latency.figures import NORMAL_95

_ROUNDS = 10
_HUBER = 1.345
"""Residuals beyond so many standard deviations lose weight (95 % efficient on normal noise: Huber 1981, Ch. 4)."""


@dataclass(frozen=True)
class Posterior:
    """Normal-inverse-gamma beliefs about coefficients [k] and noise (Gelman et al., BDA3, Sec. 14.2, 14.8)."""

    mean: Floats
    covariance: Floats
    """[k, k], in units of the noise's variance."""
    shape: float
    scale: float
    """The noise's variance is about ``scale / shape``."""

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of new observations with ``features`` [n, k], each [n]."""
        leverage = np.einsum("ik,ik->i", features @ self.covariance, features)
        return features @ self.mean, np.sqrt(self.predictive_variance * (1 + leverage))

    @property
    def predictive_variance(self) -> float:
        """Of a new observation where the coefficients are known; in between, :attr:`covariance` adds to it.

        The predictive distribution is Student's; this is the variance of the normal distribution that has the same
        central 95 %.
        """
        from scipy import stats

        width = float(stats.t.ppf(0.975, 2 * self.shape)) / NORMAL_95
        return width**2 * self.scale / self.shape

    def updated(self, features: Floats, targets: Floats, weights: Floats) -> Posterior:
        """The beliefs after observing ``targets`` [n] at ``features`` [n, k], each with a weight."""
        precision = np.linalg.inv(self.covariance)
        weighted = features.T * weights
        new_precision = precision + weighted @ features
        covariance = np.asarray(np.linalg.inv(new_precision), np.float64)
        mean: Floats = covariance @ (precision @ self.mean + weighted @ targets)
        moved, residuals = mean - self.mean, targets - features @ mean
        scale = self.scale + 0.5 * float(moved @ precision @ moved + weights @ residuals**2)
        return Posterior(mean, covariance, self.shape + 0.5 * float(weights.sum()), scale)


def fit_robustly(prior: Posterior, features: Floats, targets: Floats) -> Posterior:
    """The posterior in which observations far from the rest weigh less (Huber's weights, reweighted until settled)."""
    weights = np.ones(len(targets))
    posterior = prior.updated(features, targets, weights)
    for _ in range(_ROUNDS):
        residuals = targets - features @ posterior.mean
        # The median of |normal| is 0.6745 standard deviations.
        spread = np.median(np.abs(residuals)) / 0.6745 if len(residuals) else 0.0
        if spread == 0:
            break
        weights = np.minimum(1.0, _HUBER * spread / np.maximum(np.abs(residuals), 1e-300))
        posterior = prior.updated(features, targets, weights)
    # A wide prior lets every coefficient follow the data, which takes as much from the residuals as it does in least
    # squares; the conjugate update alone counts residuals as if none had been taken (γ in MacKay 1992, "Bayesian
    # Interpolation").
    determined = len(prior.mean) - np.trace(np.linalg.solve(prior.covariance, posterior.covariance))
    return replace(posterior, shape=max(prior.shape, posterior.shape - 0.5 * float(determined)))
