"""MLPerf's early stopping: its published counts, and what the rule promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from hwnas.agent import early_stopping, judging


@pytest.mark.parametrize(("percentile", "queries"), [(0.9, 64), (0.99, 662)])
def test_the_published_counts_come_out(percentile: float, queries: int) -> None:
    assert early_stopping.least_queries(percentile) == queries
    assert early_stopping.tolerated(queries, percentile) == 1
    assert early_stopping.tolerated(queries - 1, percentile) == 0
    assert judging.LEAST_SAMPLES[percentile] == queries


def test_loadgen_says_the_same() -> None:
    """A run of LoadGen 6.0.17: 327 queries, "would discard 19 highest latency queries" for the 90th percentile."""
    assert early_stopping.tolerated(327, 0.9) - 1 == 19


@given(st.integers(1, 3000), st.sampled_from([0.5, 0.9, 0.95, 0.97, 0.99, 0.999]), st.sampled_from([0.9, 0.99]))
def test_it_is_the_largest_count_that_is_improbable_enough(queries: int, percentile: float, confidence: float) -> None:
    found = early_stopping.tolerated(queries, percentile, confidence)
    if found:
        assert binom.cdf(found, queries, 1 - percentile) < 1 - confidence + 1e-9
    assert binom.cdf(found + 1, queries, 1 - percentile) > 1 - confidence - 1e-9


@given(st.lists(st.integers(1, 10**6), max_size=900), st.sampled_from([0.9, 0.99]))
def test_a_bound_is_there_from_the_least_count_on_and_not_below_the_percentile(
    latencies: list[int], percentile: float
) -> None:
    found = early_stopping.bound(latencies, percentile)
    assert (found is None) == (len(latencies) < early_stopping.least_queries(percentile))
    if found is not None:
        assert found >= judging.order_statistic(latencies, percentile)
        assert found in latencies
