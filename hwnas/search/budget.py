"""A limit on a measured quantity, and what the latency model says of keeping it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal, Protocol, Self, get_args

import numpy as np
import numpy.typing as npt

from hwnas.devices import BACK_TO_BACK, Arrival, Target
from hwnas.errors import UserError
from hwnas.spaces import Genomes

Percentile = Literal["p50", "p99"]

Floats = npt.NDArray[np.float64]


class LatencyPredictor(Protocol):
    """What the search asks of a latency model (:class:`hwnas.latency.LatencyModel` is one)."""

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the latency of each row of [n, choices], in ms, each [n]."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise to keep: ``statistic`` of ``quantity`` on ``target`` is at most ``limit`` (ms) when runs so arrive.

    A prediction keeps it by its upper side: mean + z·std ≤ limit, z the one-sided normal quantile of ``confidence``.
    A measurement keeps it by its samples in the device's fast state where ``gated``, else by all of them.

    Raises:
        UserError: the limit is not positive and finite, or the confidence not in 0.5 ≤ c < 1.
    """

    target: str
    quantity: Literal["latency_ms"]
    limit: float
    statistic: Percentile = "p50"
    confidence: float = 0.95
    arrival: Arrival = BACK_TO_BACK
    gated: bool = True

    def __post_init__(self) -> None:
        if self.quantity != "latency_ms" or self.statistic not in get_args(Percentile):
            raise UserError(
                f"A budget limits the {' or '.join(get_args(Percentile))} of latency_ms, not the {self.statistic} "
                f"of {self.quantity}."
            )
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise UserError(f"A latency budget is a positive number of milliseconds, not {self.limit:g}.")
        if not 0.5 <= self.confidence < 1:
            raise UserError(f"The confidence of a budget is at least 0.5 and less than 1, not {self.confidence:g}.")

    @classmethod
    def on(
        cls,
        target: Target,
        limit: float,
        *,
        statistic: Percentile = "p50",
        confidence: float = 0.95,
        arrival: Arrival = BACK_TO_BACK,
    ) -> Self:
        """A latency budget in ms on a target, kept on the samples that a promise for it is kept on."""
        return cls(target.name, "latency_ms", limit, statistic, confidence, arrival, gated=target.shared)

    def with_confidence(self, confidence: float) -> Self:
        """The same promise, of which a prediction must be sure to another degree."""
        return replace(self, confidence=confidence)

    def __str__(self) -> str:
        """The limit, and what it limits where that is not the p50 back to back: ``0.1 ms (p99, 30 fps)``."""
        others: list[str] = [self.statistic] if self.statistic != "p50" else []
        others += [str(self.arrival)] if self.arrival != BACK_TO_BACK else []
        return f"{self.limit:g} ms" + (f" ({', '.join(others)})" if others else "")

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
