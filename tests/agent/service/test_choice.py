"""Which model serves."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent.service.choice import Governor, choose, most_steps

LATENCIES = st.lists(st.floats(0.01, 100), min_size=1, max_size=8)
BUDGETS = st.none() | st.floats(0.01, 100)


@given(LATENCIES, BUDGETS)
def test_the_most_accurate_that_fits_serves_or_else_the_fastest(expected: list[float], budget: float | None) -> None:
    place, fits = choose(expected, budget)
    better = expected[:place]
    if budget is None:
        assert (place, fits) == (0, True)
    elif fits:
        assert expected[place] <= budget < min(better, default=float("inf"))
    else:
        assert expected[place] == min(expected) > budget


@given(LATENCIES, BUDGETS)
def test_each_step_leads_to_a_faster_model_and_the_last_stays(expected: list[float], budget: float | None) -> None:
    most = most_steps(expected, budget)
    taken = [expected[choose(expected, budget, steps).place] for steps in range(most + 2)]
    assert all(later < earlier for earlier, later in pairwise(taken[: most + 1]))
    assert taken[-1] == taken[-2] if most else len(set(taken)) == 1
    assert choose(expected, budget, most).fits == choose(expected, budget).fits


def test_heat_steps_at_once_and_further_while_it_lasts() -> None:
    governor = Governor(step_s=10, cool_s=30)
    assert [governor.observe(True, now, most=3) for now in (0, 5, 10, 19, 20, 30, 40)] == [1, 1, 2, 2, 3, 3, 3]


def test_a_step_back_takes_a_cool_while_each() -> None:
    governor = Governor(step_s=10, cool_s=30)
    governor.observe(True, 0, most=3)
    governor.observe(True, 10, most=3)
    assert [governor.observe(False, now, most=3) for now in (11, 40, 41, 70, 71, 200)] == [2, 2, 1, 1, 0, 0]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 29)), min_size=1), st.integers(0, 5))
def test_flickering_heat_never_brings_the_slower_model_back(readings: list[tuple[bool, float]], most: int) -> None:
    governor, now, hot_before = Governor(step_s=10, cool_s=30), 0.0, float("-inf")
    for hot, later in readings:
        now += later
        before = governor.steps
        after = governor.observe(hot, now, most)
        assert 0 <= after <= most
        if hot:
            assert after >= min(max(before, 1), most)
            hot_before = now
        elif now - hot_before < 30:
            assert after >= min(before, most)


def test_steps_that_lead_nowhere_are_not_taken() -> None:
    governor = Governor(step_s=10, cool_s=30)
    for now in range(0, 200, 10):
        governor.observe(True, now, most=1)
    assert [governor.observe(False, now, most=1) for now in (200, 230)] == [1, 0]
