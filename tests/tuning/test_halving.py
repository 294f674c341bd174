"""Successive halving as arithmetic and as a tuner of NNI, without any training."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import UserError
from hwnas.search.nni_setup import nni
from hwnas.tuning.halving import SuccessiveHalving
from hwnas.tuning.rungs import Rungs

RANGES = {
    "learning_rate": {"_type": "loguniform", "_value": [0.01, 1.0]},
    "distillation": {"_type": "uniform", "_value": [0.25, 0.75]},
}
UNTUNED = {"learning_rate": 0.1, "weight_decay": 0.0, "distillation": 1.0}


@st.composite
def some_rungs(draw: st.DrawFn) -> Rungs:
    eta, count = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    least = eta ** (count - 1)
    return Rungs(draw(st.integers(max(2, least), 90)), eta, count, draw(st.integers(least, 5000)))


@given(some_rungs())
def test_rungs_narrow_and_lengthen_by_eta(rungs: Rungs) -> None:
    assert (rungs.widths[0], rungs.ends[-1]) == (rungs.configurations, rungs.steps)
    for below, above in pairwise(rungs.widths):
        assert above == below // rungs.eta >= 1
    for below, above in pairwise(rungs.ends):
        assert 1 <= below < above
        assert abs(above - rungs.eta * below) <= rungs.eta
    # Every rung costs about the same, which is why it is called halving.
    assert rungs.total_steps() <= rungs.count * rungs.configurations * (rungs.ends[0] + 1) + rungs.eta**rungs.count
    assert Rungs.most(rungs.configurations, rungs.eta) >= rungs.count


@given(st.integers(2, 500), st.integers(2, 6))
def test_the_most_rungs_are_as_many_as_the_configurations_allow(configurations: int, eta: int) -> None:
    most = Rungs.most(configurations, eta)
    assert Rungs(configurations, eta, most, eta**most).widths[-1] >= 1
    with pytest.raises(UserError, match="give more, or fewer rungs"):
        Rungs(configurations, eta, most + 1, eta**most)


@pytest.mark.parametrize("wrong", [(1, 3, 1, 9), (9, 1, 1, 9), (9, 3, 0, 9), (9, 3, 3, 8)])
def test_rungs_without_sense_are_refused(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(UserError):
        Rungs(*wrong)


def tuner(rungs: Rungs, seed: int = 0, baseline: bool = False) -> SuccessiveHalving:
    made = SuccessiveHalving(rungs, UNTUNED, baseline=baseline, seed=seed)
    made.update_search_space(RANGES)
    return made


def drive(made: SuccessiveHalving, accuracies: list[float], backwards: bool) -> list[dict[str, float]]:
    """Answer all proposals; each configuration has one accuracy at all lengths."""
    proposed: list[dict[str, float]] = []
    while not made.finished:
        first = len(proposed)
        with pytest.raises(nni.NoMoreTrialError):
            while True:
                proposed.append(made.generate_parameters(len(proposed)))
        assert len(proposed) > first
        numbers = range(first, len(proposed))
        for number in reversed(numbers) if backwards else numbers:
            accuracy = accuracies[int(proposed[number]["configuration"])]
            made.receive_trial_result(number, proposed[number], accuracy)
    return proposed


@settings(deadline=None)
@given(some_rungs(), st.integers(0, 99), st.booleans(), st.data())
def test_the_best_go_on_whatever_the_order_of_results(
    rungs: Rungs, seed: int, baseline: bool, data: st.DataObject
) -> None:
    # Few values, so that some are equal.
    accuracies = data.draw(st.lists(st.integers(0, 5), min_size=90, max_size=90))
    forth, back = tuner(rungs, seed, baseline), tuner(rungs, seed, baseline)
    proposed = drive(forth, [accuracy / 5 for accuracy in accuracies], backwards=False)
    assert drive(back, [accuracy / 5 for accuracy in accuracies], backwards=True) == proposed
    ranked = sorted(range(rungs.configurations), key=lambda number: (-accuracies[number], number))
    for rung, width in enumerate(rungs.widths):
        on_rung = [int(run["configuration"]) for run in proposed if run["rung"] == rung]
        assert len(set(on_rung)) == len(on_rung)
        best = set(ranked[:width])
        assert set(on_rung) == (best | {0} if baseline else best)
        assert {run["steps"] for run in proposed if run["rung"] == rung} == {rungs.ends[rung]}
    assert forth.ranking(rungs.count - 1)[0] == ranked[0]


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_configurations_are_the_untuned_one_and_others_within_the_ranges(count: int, seed: int) -> None:
    rungs = Rungs(count, 2, 1, 1)
    first, *others = tuner(rungs, seed).configurations
    assert first == {"learning_rate": 0.1, "distillation": 1.0}
    assert tuner(rungs, seed).configurations == [first, *others]
    assert len({tuple(values.items()) for values in others}) == len(others) == count - 1
    for values in others:
        assert 0.01 <= values["learning_rate"] <= 1 and 0.25 <= values["distillation"] <= 0.75
    if count > 8:
        # Even coverage: a rate in each decade, which is half of the range.
        assert {values["learning_rate"] > 0.1 for values in others} == {True, False}
        assert tuner(rungs, seed ^ 1).configurations[1:] != others
