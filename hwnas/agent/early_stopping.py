"""MLPerf's early-stopping rule: what a percentile is at most, by n queries alone.

A query over a latency L occurs with some probability q.  When few of n queries exceed L, it can be said with a given
confidence that q is at most 1 - p, that is, that the p-th percentile is at most L.  Source: MLPerf Inference rules,
"Early Stopping Criterion", and LoadGen's early_stopping.cc, whose figures these functions give.
"""

from __future__ import annotations

import math
from typing import Optional, Sequence

CONFIDENCE = 0.99


def tolerated(queries: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """How many of n queries may be at or over the latency that bounds the percentile; 0 where n is too small.

    It is the largest t for which at most t of n queries would be over with a probability below 1 - ``confidence`` if
    the percentile were higher than claimed: P[Binomial(n, 1 - p) <= t] < 1 - c.

    Args:
        queries: n.
        percentile: p, 0 < p < 1.
        confidence: c.
    """
    over, within = math.log1p(-percentile), math.log(percentile)
    total, found = 0.0, 0
    for t in range(queries + 1):
        chance = math.lgamma(queries + 1) - math.lgamma(t + 1) - math.lgamma(queries - t + 1)
        total += math.exp(chance + t * over + (queries - t) * within)
        if total >= 1.0 - confidence:
            break
        found = t
    return found


def least_queries(percentile: float, confidence: float = CONFIDENCE) -> int:
    """Fewest queries that bound a percentile: 64 for 0.9, 662 for 0.99."""
    low, high = 0, 1
    while not tolerated(high, percentile, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if tolerated(middle, percentile, confidence):
            high = middle
        else:
            low = middle
    return high


def bound(latencies: Sequence[float], percentile: float, confidence: float = CONFIDENCE) -> Optional[float]:
    """What the percentile is at most, in the latencies' unit; ``None`` where they are too few."""
    over = tolerated(len(latencies), percentile, confidence)
    return sorted(latencies)[-over] if over else None
