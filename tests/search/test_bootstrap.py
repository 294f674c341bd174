"""Intervals of percentiles of runs that are alike when they follow each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.search.bootstrap import block_length, percentile_interval


def correlated(rng: np.random.Generator, n: int, correlation: float) -> np.ndarray:
    """A first-order autoregressive series [n] of variance 1."""
    steps = rng.standard_normal(n) * np.sqrt(1 - correlation**2)
    series = np.empty(n)
    series[0] = rng.standard_normal()
    for i in range(1, n):
        series[i] = correlation * series[i - 1] + steps[i]
    return series


def runs(
    rng: np.random.Generator, *, builds: int, between: float, within: float, alike: float
) -> list[list[list[float]]]:
    """Builds of 40 batches of 8 runs around 100; batches that follow each other are alike."""
    found = []
    for build in rng.standard_normal(builds):
        batches = 100 * np.exp(between * build + within * correlated(rng, 40, alike))
        found.append([(batch * np.exp(0.002 * rng.standard_normal(8))).tolist() for batch in batches])
    return found


@pytest.mark.parametrize(
    ("between", "alike", "builds"), [(0.0, 0.0, 3), (0.0, 0.7, 3), (0.01, 0.0, 6), (0.005, 0.8, 6)]
)
def test_the_interval_holds_the_true_median_about_as_often_as_it_says(
    between: float, alike: float, builds: int
) -> None:
    held, trials = 0, 100
    for trial in range(trials):
        sampled = runs(np.random.default_rng(trial), builds=builds, between=between, within=0.01, alike=alike)
        low, high = percentile_interval(sampled, 0.5, replicates=200, seed=trial) or (0.0, 0.0)
        held += low <= 100 <= high
    # 95 % is aimed at; few builds and strong correlation cost some of it.
    assert held / trials >= 0.86


def test_resampling_single_runs_would_promise_far_too_much() -> None:
    sampled = runs(np.random.default_rng(1), builds=3, between=0.01, within=0.01, alike=0.9)
    low, high = percentile_interval(sampled, 0.5) or (0.0, 0.0)
    values = np.array(sampled).ravel()
    rng = np.random.default_rng(0)
    singles = np.median(rng.choice(values, (300, len(values))), axis=1)
    assert high - low > 4 * float(np.ptp(np.quantile(singles, [0.025, 0.975])))


def test_blocks_are_longer_the_more_runs_are_alike() -> None:
    rng = np.random.default_rng(0)
    lengths = [block_length(correlated(rng, 400, correlation)) for correlation in (0.0, 0.5, 0.9)]
    assert lengths == sorted(lengths) and lengths[0] <= 3 and lengths[-1] >= 15
    assert block_length(np.ones(10)) == 1


@given(
    st.lists(st.lists(st.lists(st.floats(0.1, 1e3), max_size=5), min_size=1, max_size=6), min_size=1, max_size=4),
    st.sampled_from([0.5, 0.99]),
)
def test_any_shape_gives_ends_in_order_and_the_same_again(builds: list[list[list[float]]], p: float) -> None:
    found = percentile_interval(builds, p, replicates=50)
    assert found == percentile_interval(builds, p, replicates=50)
    if any(batch for batches in builds for batch in batches):
        assert found is not None and 0 < found[0] <= found[1]
    else:
        assert found is None


def test_one_constant_is_known_exactly() -> None:
    assert percentile_interval([[[2.0] * 8] * 5] * 3, 0.99) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.parametrize("seed", range(20))
def test_builds_of_which_none_is_drawn_for_a_while_are_no_error(seed: int) -> None:
    """With many samples few replicates are held at once, down to one, which need not draw every build."""
    sampled = runs(np.random.default_rng(seed), builds=5, between=0.01, within=0.01, alike=0.5)
    low, high = percentile_interval(sampled, 0.5, replicates=1, seed=seed) or (0.0, 0.0)
    assert 90 < low == high < 110
