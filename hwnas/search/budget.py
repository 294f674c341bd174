"""A limit on a measured quantity, and what the latency model says of keeping it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError
from hwnas.spaces import Genomes

Floats = npt.NDArray[np.float64]


class LatencyPredictor(Protocol):
    """What the search asks of a latency model (:class:`hwnas.latency.LatencyModel` is one)."""

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the latency of each row of [n, choices], in ms, each [n]."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise to keep: ``statistic`` of ``quantity`` on ``target`` is at most ``limit`` (ms).

    A prediction keeps it by its upper side: mean + z·std ≤ limit, z the one-sided normal quantile of ``confidence``.

    Raises:
        UserError: the limit is not positive and finite, or the confidence not in 0.5 ≤ c < 1.
    """

    target: str
    quantity: Literal["latency_ms"]
    limit: float
    statistic: Literal["p50"] = "p50"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.quantity != "latency_ms" or self.statistic != "p50":
            raise UserError(f"A budget limits the p50 of latency_ms, not the {self.statistic} of {self.quantity}.")
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise UserError(f"A latency budget is a positive number of milliseconds, not {self.limit:g}.")
        if not 0.5 <= self.confidence < 1:
            raise UserError(f"The confidence of a budget is at least 0.5 and less than 1, not {self.confidence:g}.")

    @property
    def z(self) -> float:
        """How many standard deviations are added to a mean before it is compared with the limit."""
        return NormalDist().inv_cdf(self.confidence)

    def upper(self, mean: Floats, std: Floats) -> Floats:
        """The upper side of predictions, [n] in ms."""
        return mean + self.z * std

    def keeps(self, mean: Floats, std: Floats) -> npt.NDArray[np.bool_]:
        """Which predictions keep the budget, [n]."""
        return np.asarray(self.upper(mean, std) <= self.limit)
