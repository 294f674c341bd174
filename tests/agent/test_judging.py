"""Which samples count, and what they say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent.judging import (
    Batch,
    FastState,
    accepted_samples,
    all_samples,
    fast_state,
    order_statistic,
    summarise,
)

times = st.integers(1, 10**9)
batches = st.lists(
    st.builds(
        Batch,
        st.lists(times, min_size=1, max_size=4).map(tuple),
        st.one_of(st.none(), st.tuples(times, times)),
        st.booleans(),
    ),
    max_size=12,
)


@given(st.lists(times, min_size=1, max_size=200), st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]))
def test_order_statistic_is_the_least_value_that_covers_the_share(values: list[int], p: float) -> None:
    result = order_statistic(values, p)
    assert result in values
    assert sum(value <= result for value in values) >= p * len(values) - 1e-9
    assert sum(value < result for value in values) < p * len(values)


def test_order_statistic_of_known_ranks() -> None:
    values = list(range(100, 0, -1))
    assert [order_statistic(values, p) for p in (0.07, 0.5, 0.9, 0.99, 1.0)] == [7, 50, 90, 99, 100]


@pytest.mark.parametrize(
    ("n", "stated"),
    [
        (0, (False, False, False)),
        (1, (True, False, False)),
        (63, (True, False, False)),
        (64, (True, True, False)),
        (661, (True, True, False)),
        (662, (True, True, True)),
    ],
)
def test_a_percentile_is_stated_only_from_enough_samples(n: int, stated: tuple[bool, bool, bool]) -> None:
    summary = summarise([float(value) for value in range(n)])
    assert tuple(value is not None for value in (summary.p50, summary.p90, summary.p99)) == stated
    assert summary.n == n
    assert (summary.mad is None) == (n == 0)


def test_mad_is_the_median_distance_from_the_median() -> None:
    assert summarise([1.0, 2.0, 3.0, 4.0, 100.0]).mad == 1.0


@given(batches, times, times, st.floats(0, 1))
def test_a_larger_fast_state_accepts_no_less(found: list[Batch], one: int, other: int, tolerance: float) -> None:
    low, high = sorted((one, other))
    for batch in found:
        assert batch.counts(low, tolerance) <= batch.counts(high, tolerance)
    assert len(accepted_samples(found, low, tolerance)) <= len(accepted_samples(found, high, tolerance))


@given(batches, times, st.floats(0, 1))
def test_what_counts_ran_between_fast_canaries_with_still_clocks(
    found: list[Batch], fast: int, tolerance: float
) -> None:
    raw = accepted_samples(found, fast, tolerance)
    assert len(raw) <= len(all_samples(found))
    for batch in found:
        if batch.counts(fast, tolerance):
            assert batch.canary_ns is not None
            assert not batch.clocks_moved
            assert max(batch.canary_ns) <= fast * (1 + tolerance)


@given(st.lists(times, min_size=1, max_size=5), times, st.floats(0.5, 2.0))
def test_drift_that_slows_canary_and_engine_alike_is_divided_out(samples: list[int], fast: int, speed: float) -> None:
    slowed = Batch(tuple(round(sample * 1000 * speed) for sample in samples), (round(fast * 1000 * speed),) * 2)
    corrected = slowed.at_fast_state(fast * 1000)
    assert corrected == pytest.approx([sample * 1000 for sample in samples], rel=2e-3)


def test_the_fast_state_of_a_session_is_the_fifth_percentile_of_its_canaries() -> None:
    found = [Batch((1,), (2 * i + 1, 2 * i + 2)) for i in range(50)]
    assert fast_state(found) == 5
    assert fast_state([Batch((1,), None)]) is None


def test_a_faster_state_is_learned_when_it_persists() -> None:
    state = FastState()
    assert state.value_ns is None
    for _ in range(500):
        state.observe(180)
    assert state.value_ns == 180
    state.observe(100)
    assert state.value_ns == 180, "one lucky run is no state"
    for _ in range(60):
        state.observe(100)
    assert state.value_ns == 100


@given(st.lists(times, min_size=1, max_size=600))
def test_once_settled_the_fast_state_never_rises(canaries: list[int]) -> None:
    state, before = FastState(window=300, settled=100), math.inf
    for number, canary in enumerate(canaries, start=1):
        state.observe(canary)
        value = state.value_ns
        assert value is not None
        if number > 100:
            assert value <= before
        before = value


def test_the_fast_state_of_a_former_session_is_taken_over() -> None:
    state = FastState(100.0)
    assert state.value_ns == 100
    state.observe(180)
    assert state.value_ns == 100


def test_old_canaries_leave_the_window() -> None:
    state = FastState(window=10, settled=10**9)
    for canary in [5] * 10 + [9] * 10:
        state.observe(canary)
    assert state.value_ns == 9
