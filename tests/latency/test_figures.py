from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.latency import Figures, figures
from hwnas.latency.figures import SHARES, wilson

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


@settings(deadline=None)
@given(n=st.integers(1, 3000), part=st.floats(0, 1))
def test_wilson_s_interval_is_that_of_its_formula(n: int, part: float) -> None:
    share = round(part * n) / n
    z, centre = 1.959963984540054, share + 1.959963984540054**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = wilson(share, n)
    assert low == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-9)
    assert high == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-9)
    assert 0 <= low <= share <= high <= 1


def test_every_share_has_its_interval() -> None:
    measured = np.linspace(1.0, 2.0, 200)
    predicted = measured * np.where(np.arange(200) < 2, 1.07, 1.01)
    result = figures(measured, predicted, 0.02 * measured)
    assert result.within_5pct == 0.99
    assert result.within_5pct_interval == pytest.approx((0.9643, 0.9973), abs=1e-4)
    assert result.within_10pct_interval == pytest.approx((0.9812, 1.0), abs=1e-4)
    assert result.coverage_95_interval == result.within_5pct_interval
    assert figures(measured, predicted).coverage_95_interval is None


def test_figures_of_before_the_intervals_are_read_and_wrong_intervals_refused() -> None:
    result = figures(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.1, 5.0]), np.ones(3))
    old = result.model_dump(exclude={f"{name}_interval" for name in SHARES})
    assert Figures.model_validate(old) == result == Figures.model_validate_json(result.model_dump_json())
    for wrong in ({"within_5pct_interval": (0.0, 0.1)}, {"coverage_95": None, "coverage_95_interval": (0.2, 0.4)}):
        with pytest.raises(ValueError, match="interval must hold"):
            Figures.model_validate(result.model_dump() | wrong)
