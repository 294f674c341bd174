"""Which network to measure next: the one whose measurement narrows the predictions over the space the most."""

from __future__ import annotations

import numpy as np

from hwnas.latency.base import Floats
from hwnas.latency.regression import Posterior


def most_informative(posterior: Posterior, candidates: Floats, reference: Floats, n: int) -> list[int]:
    """Positions of up to ``n`` different candidates, the most informative first.

    Each is the one after whose measurement the mean variance over ``reference`` is least, given those before it
    (Cohn, Ghahramani and Jordan 1996, "Active learning with statistical models", Sec. 3: for a linear model this
    needs no measured value).

    Args:
        candidates: features of the networks that may be measured, [m, k].
        reference: features of networks typical of those that will be predicted, [r, k].
    """
    covariance = posterior.covariance.copy()
    free = np.ones(len(candidates), bool)
    chosen: list[int] = []
    for _ in range(min(n, len(candidates))):
        spread = candidates @ covariance
        gain = np.sum((spread @ reference.T) ** 2, axis=1) / (1.0 + np.einsum("ij,ij->i", spread, candidates))
        best = int(np.argmax(np.where(free, gain, -1.0)))
        free[best] = False
        chosen.append(best)
        direction = spread[best]
        covariance -= np.outer(direction, direction) / (1.0 + float(direction @ candidates[best]))
    return chosen


def leave_one_out(posterior: Posterior, features: Floats, targets: Floats) -> Floats:
    """What each observation [n] deviates from its prediction by all others, [n] in the targets' unit.

    Of a linear fit these follow from the residuals and leverages alone (Allen 1974, the PRESS statistic).
    """
    leverage = np.einsum("ij,jk,ik->i", features, posterior.covariance, features)
    return np.asarray((targets - features @ posterior.mean) / np.maximum(1.0 - leverage, 1e-3))
