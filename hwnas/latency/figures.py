"""How good predictions are: figures over held-out measured networks, and the same for simpler predictors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwnas.latency.base import Floats

Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]
SHARES = ("within_5pct", "within_10pct", "coverage_95")
"""Figures that are shares of the networks, each with its interval."""
FEWEST = 2
"""Networks that figures can be made of."""
NORMAL_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def wilson(share: float, n: int) -> Interval:
    """The interval that holds the true share with probability 95 %, of ``share`` observed among ``n`` (Wilson 1927)."""
    from scipy.stats import binomtest

    interval = binomtest(round(share * n), n).proportion_ci(method="wilson")
    # Rounding may put an end of the interval just inside a share of 0 or 1.
    return min(float(interval.low), share), max(float(interval.high), share)


def _interval_of(share: str) -> Callable[[dict[str, Any]], Any]:
    return lambda known: None if known[share] is None else wilson(known[share], known["n"])


class Figures(BaseModel):
    """Predictions against measurements of ``n`` networks; the interval of each share holds it with 95 %."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int = Field(ge=FEWEST)
    mape: float = Field(ge=0)
    """Mean absolute error, per cent of the measured latency."""
    bias: float
    """Mean signed error, per cent of the measured latency; positive: predicted too slow."""
    rmse_ms: float = Field(ge=0)
    within_5pct: Share
    """Share of the networks whose error is at most 5 % of the measured latency."""
    within_5pct_interval: Interval = Field(default_factory=_interval_of("within_5pct"))
    within_10pct: Share
    within_10pct_interval: Interval = Field(default_factory=_interval_of("within_10pct"))
    kendall_tau: float | None = Field(ge=-1, le=1)
    """Kendall's τ-b of predicted and measured order; ``None`` where either is constant."""
    spearman: float | None = Field(ge=-1, le=1)
    coverage_95: Share | None = None
    """Share of the networks within mean ± 1.96·std; ``None`` for a predictor that states no std."""
    coverage_95_interval: Interval | None = Field(default_factory=_interval_of("coverage_95"))

    @model_validator(mode="after")
    def _intervals_hold_their_shares(self) -> Self:
        for name in SHARES:
            share, interval = getattr(self, name), self.interval(name)
            if (share is None) != (interval is None) or (interval and not interval[0] <= share <= interval[1]):
                raise ValueError(f"{name}_interval must hold {name}")
        return self

    def interval(self, share: str) -> Interval | None:
        """The interval of one of :data:`SHARES`; ``None`` where there is no such share."""
        interval: Interval | None = getattr(self, f"{share}_interval")
        return interval


class ValidationFigures(Figures):
    """The latency model's figures on held-out networks, and what they are to be compared with."""

    interpolated: Figures | None = None
    """The model's figures on those of the networks that contain a block that was not measured, unless all do."""
    baselines: dict[str, Figures] = {}
    """``block_sum``: the plain sum of isolated blocks; ``macs``: a line through MACs, fitted as the model was."""


def figures(measured_ms: Floats, predicted_ms: Floats, std_ms: Floats | None = None) -> Figures:
    """The figures of predictions [n] against measurements [n], n ≥ 2, both in ms.

    Raises:
        ValueError: the arrays differ in length, have fewer than 2 entries, or hold a non-positive measurement.
    """
    if not measured_ms.shape == predicted_ms.shape or measured_ms.ndim != 1 or len(measured_ms) < FEWEST:
        raise ValueError(f"expected two equally long vectors, found {measured_ms.shape} and {predicted_ms.shape}")
    if not (measured_ms > 0).all():
        raise ValueError("a measured latency must be positive")
    error = predicted_ms - measured_ms
    relative = error / measured_ms
    inside = None if std_ms is None else float(np.mean(np.abs(error) <= NORMAL_95 * std_ms))
    tau, rho = rank_correlations(measured_ms, predicted_ms)
    return Figures(
        n=len(measured_ms),
        mape=float(100 * np.abs(relative).mean()),
        bias=float(100 * relative.mean()),
        rmse_ms=float(np.sqrt(np.mean(error**2))),
        within_5pct=float(np.mean(np.abs(relative) <= 0.05)),
        within_10pct=float(np.mean(np.abs(relative) <= 0.10)),
        kendall_tau=tau,
        spearman=rho,
        coverage_95=inside,
    )


def rank_correlations(first: Floats, second: Floats) -> tuple[float | None, float | None]:
    """Kendall's τ-b and Spearman's ρ; ``None`` where all of one are equal, or there are not two."""
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, None
    from scipy import stats

    found = stats.kendalltau(first, second).statistic, stats.spearmanr(first, second).statistic
    tau, rho = (min(1.0, max(-1.0, float(value))) for value in found)  # rounding may lead beyond
    return tau, rho
