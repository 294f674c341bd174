"""A latency model held against networks that it was not fitted to, as the pages of runs and of tables show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hwnas import report
from hwnas.latency import Figures
from hwnas.latency.table import NetworkEntry


def held_out_networks(
    entries: Sequence[NetworkEntry],
    measured_ms: Iterable[float],
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
) -> tuple[report.HeldOutNetwork, ...]:
    """Networks beside their predictions ``mean`` ± ``std`` in ms, each [n]."""
    return tuple(
        report.HeldOutNetwork(
            id=entry.architecture.id, measured_ms=float(measured), predicted_ms=float(predicted), std_ms=float(spread)
        )
        for entry, measured, predicted, spread in zip(entries, measured_ms, mean, std, strict=True)
    )


def latency_figures(predictor: str, found: Figures) -> report.LatencyFigures:
    """Figures as a page shows them."""
    return report.LatencyFigures(
        predictor=predictor,
        n=found.n,
        mape_percent=found.mape,
        within_5_percent=found.within_5pct,
        within_5_interval=found.within_5pct_interval,
        within_10_percent=found.within_10pct,
        within_10_interval=found.within_10pct_interval,
        kendall_tau=found.kendall_tau,
        spearman=found.spearman,
        rmse_ms=found.rmse_ms,
        coverage_95=found.coverage_95,
        coverage_95_interval=found.coverage_95_interval,
    )
