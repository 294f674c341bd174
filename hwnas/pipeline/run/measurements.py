"""Measured latencies as a run's files and its report hold them."""

from __future__ import annotations

from hwnas import report
from hwnas.devices import Statistics
from hwnas.export import Timing
from hwnas.search import Finalist


def measurement(finalist: Finalist) -> report.Measurement:
    """What a finalist took."""
    gated, ungated = finalist.gated, finalist.ungated
    return report.Measurement(
        gated=latency(gated.statistics, gated.interval_ms),
        ungated=latency(ungated.statistics, ungated.interval_ms),
        builds=len(finalist.builds),
    )


def latency(found: Statistics | Timing, interval_ms: tuple[float, float] | None = None) -> report.Latency | None:
    """One set of samples; None where they were too few."""
    if found.p50_ms is None:
        return None
    return report.Latency(
        p50_ms=found.p50_ms, p90_ms=found.p90_ms, p99_ms=found.p99_ms, samples=found.n, interval_ms=interval_ms
    )
