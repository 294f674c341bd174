"""The data of a report that explain the winner: what its choices buy and cost, by prediction."""

from __future__ import annotations

from hwnas.report.part import Milliseconds, Part, SignedMilliseconds


class Alternative(Part):
    """One choice of the winner changed: what that adds to the predicted accuracy and latency.

    ``change`` says it in words, with the choices that it activates or silences.
    """

    change: str
    top1: float
    latency_ms: SignedMilliseconds


class Worth(Part):
    """A choice of the winner, and the steps to the next lower and the next higher value."""

    label: str
    value: int
    lower: Alternative | None
    higher: Alternative | None


class AtAnotherBudget(Part):
    """What to change, in order, at another latency budget, and where that leads by prediction."""

    limit_ms: Milliseconds
    moves: tuple[Alternative, ...]
    top1: float
    latency_ms: SignedMilliseconds
    keeps: bool


class FarFromBest(Part):
    """The winner beside the optimum of the sum over blocks nearest to the predictor; accuracies by prediction.

    ``optimum`` is the value of that sum, ``optimum_predicted`` what the predictor says of its architecture, ``r2`` how
    much of the predictor's variance the sum explains, ``upper_bound`` one of the predictor, where one is known.
    """

    predicted: float
    optimum: float
    optimum_predicted: float
    proved: bool
    r2: float | None
    upper_bound: float | None


class Explained(Part):
    """What each choice of the winner buys and costs; ``top1`` figures are fractions."""

    top1: float
    top1_std: float
    choices: tuple[Worth, ...]
    grown: AtAnotherBudget
    shrunk: AtAnotherBudget
