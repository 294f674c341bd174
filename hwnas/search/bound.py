"""How far the best architecture found is from the best there is, by the predictor of accuracy.

Nothing here speaks of real accuracy: bounds and optima are of the predictor, and of additive fits to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from hwnas.files import Document
from hwnas.search.accuracy import taught
from hwnas.search.additive import AdditiveTerms, explained
from hwnas.search.budget import Floats
from hwnas.search.optimum import Limit, optimum
from hwnas.search.record import Evaluation, JsonArchitecture
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture, Genomes

INFORMATIVE = 0.01
"""A bound farther than this above the best found says nothing."""
FITTED, JUDGED = 2000, 500
SEED = 0
"""Of the random architectures that the additive fit is made from and judged on."""


class Bounding(Protocol):
    """Bounds a predictor from above, over all architectures within the limits and not only some."""

    def __call__(self, limits: Sequence[Limit]) -> float:
        """No architecture within ``limits`` is predicted to be more accurate."""


class AdditiveOptimum(Document):
    """The optimum of the sum over blocks that is nearest to the predictor, under the limit on the mean latency.

    Attributes:
        architecture: the optimum.
        value: of the sum.
        predicted: what the predictor itself says of that architecture.
        proved: whether it is proved that no architecture has a greater sum.
        r2: share of the predictor's variance, over other random architectures within the budgets, that the sum
            explains; None where the predictor does not vary.
    """

    architecture: JsonArchitecture
    value: float
    predicted: float
    proved: bool
    r2: float | None


class Distance(Document):
    """How far the best found is from the best, by the predictor.

    Attributes:
        best: the best architecture found.
        predicted: its accuracy by the predictor.
        additive: the optimum of the best additive fit; None where the mean latency is no sum over blocks.
        mean_limit_ms: of the latency; where a prediction must keep a budget by more than its mean, or keep others as
            well, this alone is a valid relaxation.
        upper_bound: of the predictor over all architectures within the limit, at most 1; None where none is known
            within 0.01 of ``predicted``.
    """

    best: JsonArchitecture
    predicted: float
    additive: AdditiveOptimum | None
    mean_limit_ms: float
    upper_bound: float | None


def how_far(
    screen: Screen,
    score: Callable[[Genomes], Floats],
    best: Genomes,
    mean_limit: float,
    rng: np.random.Generator,
    bound: Bounding | None = None,
) -> Distance:
    """How far ``best`` [1, choices] is from the best there is.

    Args:
        score: the predictor's mean accuracy of each row of [n, choices], [n], as a fraction.
        mean_limit: of the promised latency, in ms.  Other budgets, and the spread of this one, are left out, which
            makes every bound the looser and no bound wrong.
        bound: of the same predictor; without one ``upper_bound`` is None.
    """
    terms = AdditiveTerms.of(screen.space, screen.latency)
    limits = [] if terms is None else [Limit(terms, mean_limit)]
    predicted = float(score(best)[0])
    additive = _additive(screen, score, limits, rng) if limits else None
    upper = bound(limits) if bound is not None and limits else None
    return Distance(
        best=screen.space.decode(best)[0],
        predicted=predicted,
        additive=additive,
        mean_limit_ms=mean_limit,
        upper_bound=informative(upper, predicted),
    )


def how_far_evaluated(screen: Screen, evaluations: Sequence[Evaluation], architecture: Architecture) -> Distance | None:
    """:func:`how_far` an architecture is, by what a Gaussian process learns from evaluations; None from fewer than two.

    No bound of a Gaussian process is computed: ``upper_bound`` is None.
    """
    predictor = taught(screen.space, evaluations)
    if predictor is None:
        return None
    best, rng = screen.space.encode([architecture]), np.random.default_rng(SEED)
    return how_far(screen, lambda rows: predictor.predict(rows)[0], best, screen.budget.limit, rng)


def informative(upper: float | None, predicted: float) -> float | None:
    """A bound that says something: not above 1, and at most 0.01 above what was found; else None."""
    return None if upper is None or upper > min(1.0, predicted + INFORMATIVE) else max(upper, predicted)


def _additive(
    screen: Screen, score: Callable[[Genomes], Floats], limits: Sequence[Limit], rng: np.random.Generator
) -> AdditiveOptimum | None:
    """Fitted to random architectures within the budgets, judged on others."""
    genomes = screen.sample(rng, FITTED + JUDGED)
    split = len(genomes) * FITTED // (FITTED + JUDGED)
    if split < 2:
        return None
    values = score(genomes)
    fit = AdditiveTerms.fit(screen.space, genomes[:split], values[:split])
    found = optimum(fit, limits)
    if found is None:
        return None
    return AdditiveOptimum(
        architecture=screen.space.decode(found.genome)[0],
        value=found.value,
        predicted=float(score(found.genome)[0]),
        proved=found.proved,
        r2=explained(values[split:], fit.predict(genomes[split:])),
    )
