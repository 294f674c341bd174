from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.latency import figures

LATENCIES = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=40)


@settings(deadline=None)
@given(measured=LATENCIES, factor=st.floats(0.5, 2.0))
def test_a_constant_factor_is_the_mape_and_keeps_the_order(measured: list[float], factor: float) -> None:
    values = np.array(measured)
    result = figures(values, factor * values)
    assert result.mape == pytest.approx(100 * abs(factor - 1), abs=1e-6)
    assert result.bias == pytest.approx(100 * (factor - 1), abs=1e-6)
    if len(set(measured)) == len(measured) and result.kendall_tau is not None:
        order = np.argsort(values)
        if (np.argsort(factor * values) == order).all() and len(set(factor * values)) == len(measured):
            assert result.kendall_tau == pytest.approx(1.0) and result.spearman == pytest.approx(1.0)
    assert result.coverage_95 is None and result.n == len(measured)


@settings(deadline=None)
@given(measured=LATENCIES, seed=st.integers(0, 2**32 - 1))
def test_shares_grow_with_their_tolerance(measured: list[float], seed: int) -> None:
    values = np.array(measured)
    predicted = values * np.exp(0.1 * np.random.default_rng(seed).standard_normal(len(values)))
    result = figures(values, predicted, 0.1 * values)
    assert 0 <= result.within_5pct <= result.within_10pct <= 1
    assert result.coverage_95 is not None and 0 <= result.coverage_95 <= 1
    assert result.rmse_ms >= 0 and abs(result.bias) <= result.mape + 1e-9


def test_the_figures_of_a_case_done_by_hand() -> None:
    measured = np.array([1.0, 2.0, 4.0, 10.0])
    predicted = np.array([1.04, 1.84, 4.8, 9.0])
    result = figures(measured, predicted, np.array([0.03, 0.05, 0.3, 1.0]))
    assert result.mape == pytest.approx((4 + 8 + 20 + 10) / 4)
    assert result.bias == pytest.approx((4 - 8 + 20 - 10) / 4)
    assert (result.within_5pct, result.within_10pct) == (0.25, 0.75)
    assert result.coverage_95 == 0.5
    assert result.rmse_ms == pytest.approx(np.sqrt((0.04**2 + 0.16**2 + 0.8**2 + 1.0) / 4))
    assert result.kendall_tau == pytest.approx(1.0)


def test_a_constant_prediction_has_no_rank_correlation() -> None:
    result = figures(np.array([1.0, 2.0]), np.array([1.5, 1.5]))
    assert result.kendall_tau is None and result.spearman is None


@pytest.mark.parametrize(
    ("measured", "predicted"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([0.0, 1.0], [1.0, 1.0]), ([-1.0, 1.0], [1.0, 1.0])],
)
def test_what_cannot_be_compared_is_refused(measured: list[float], predicted: list[float]) -> None:
    with pytest.raises(ValueError):
        figures(np.array(measured), np.array(predicted))
