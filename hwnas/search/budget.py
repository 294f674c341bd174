"""A limit on a quantity, and what a prediction says of keeping it."""

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
Quantity = Literal["latency_ms", "model_mb", "macs", "params", "activation_mib"]

UNITS: dict[Quantity, str] = {
    "latency_ms": "ms",
    "model_mb": "MB of weights",
    "macs": "MACs",
    "params": "parameters",
    "activation_mib": "MiB of activations",
}
"""What a limit on each quantity counts: ``model_mb`` in 10⁶ bytes, ``activation_mib`` in 2²⁰."""

Floats = npt.NDArray[np.float64]


class QuantityPredictor(Protocol):
    """What the search asks of whatever says how much of a quantity an architecture takes."""

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation for each row of [n, choices], in the quantity's unit, each [n]."""


class LatencyPredictor(QuantityPredictor, Protocol):
    """One for the latency in ms; :class:`hwnas.latency.LatencyModel` is one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise to keep: ``statistic`` of ``quantity`` on ``target`` is at most ``limit`` when runs so arrive.

    A prediction keeps it by its upper side: mean + z·std ≤ limit, z the one-sided normal quantile of ``confidence``.
    A measurement keeps it by its samples in the device's fast state where ``gated``, else by all of them.  Quantities
    other than latency belong to the architecture, whatever the device: their target is empty, and they are exact.

    Raises:
        UserError: the limit is not positive and finite, or the confidence not in 0.5 ≤ c < 1.
    """

    target: str
    quantity: Quantity
    limit: float
    statistic: Percentile = "p50"
    confidence: float = 0.95
    arrival: Arrival = BACK_TO_BACK
    gated: bool = True

    def __post_init__(self) -> None:
        if self.quantity not in UNITS or self.statistic not in get_args(Percentile):
            raise UserError(
                f"A budget limits the {' or '.join(get_args(Percentile))} of {', '.join(UNITS)}, not the "
                f"{self.statistic} of {self.quantity}."
            )
        if not (math.isfinite(self.limit) and self.limit > 0):
            if self.quantity == "latency_ms":
                raise UserError(f"A latency budget is a positive number of milliseconds, not {self.limit:g}.")
            raise UserError(f"A budget is a positive number of {UNITS[self.quantity]}, not {self.limit:g}.")
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

    @classmethod
    def of_architecture(cls, quantity: Quantity, limit: float) -> Self:
        """A budget of a quantity that an architecture has on every device."""
        return cls("", quantity, limit)

    def with_confidence(self, confidence: float) -> Self:
        """The same promise, of which a prediction must be sure to another degree."""
        return replace(self, confidence=confidence)

    def __str__(self) -> str:
        """The limit, and what it limits of a latency other than the p50 back to back: ``0.1 ms (p99, 30 fps)``."""
        others: list[str] = [self.statistic] if self.statistic != "p50" else []
        others += [str(self.arrival)] if self.arrival != BACK_TO_BACK else []
        return self.amount(self.limit) + (f" ({', '.join(others)})" if others else "")

    def amount(self, value: float) -> str:
        """So much of the quantity, with its unit, to four digits."""
        return f"{self.number(value)} {UNITS[self.quantity]}"

    def number(self, value: float) -> str:
        """So much of the quantity, to four digits; what is counted, in millions."""
        return f"{value / 1e6:.4g} M" if self.quantity in ("macs", "params") else f"{value:.4g}"

    @property
    def place(self) -> str:
        """Where it holds: ``on jetson``; empty for what belongs to the architecture."""
        return f"on {self.target}" if self.target else ""

    @property
    def z(self) -> float:
        """How many standard deviations are added to a mean before it is compared with the limit."""
        return NormalDist().inv_cdf(self.confidence)

    def upper(self, mean: Floats, std: Floats) -> Floats:
        """The upper side of predictions, [n]."""
        return mean + self.z * std

    def keeps(self, mean: Floats, std: Floats) -> npt.NDArray[np.bool_]:
        """Which predictions keep the budget, [n]."""
        return np.asarray(self.upper(mean, std) <= self.limit)
