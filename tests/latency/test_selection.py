from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.latency.regression import Posterior
from hwnas.latency.selection import leave_one_out, most_informative

SEEDS = st.integers(0, 2**32 - 1)


def prior(columns: int) -> Posterior:
    return Posterior(np.zeros(columns), np.diag(np.linspace(0.5, 8.0, columns)), 1.0, 0.5)


def mean_variance(posterior: Posterior, features: np.ndarray, reference: np.ndarray) -> float:
    after = posterior.updated(features, np.zeros(len(features)), np.ones(len(features)))
    return float(np.einsum("ij,jk,ik->i", reference, after.covariance, reference).mean())


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_first_choice_is_the_best_of_all_and_the_next_the_best_after_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, reference = rng.standard_normal((25, 4)), rng.standard_normal((50, 4))
    chosen = most_informative(prior(4), candidates, reference, 3)
    assert len(set(chosen)) == 3
    for step in range(3):
        others = [i for i in range(25) if i not in chosen[:step]]
        left = {i: mean_variance(prior(4), candidates[[*chosen[:step], i]], reference) for i in others}
        assert left[chosen[step]] <= min(left.values()) * (1 + 1e-9)


def test_no_more_are_chosen_than_there_are_and_none_twice() -> None:
    candidates = np.ones((3, 2))
    assert sorted(most_informative(prior(2), candidates, candidates, 10)) == [0, 1, 2]
    assert most_informative(prior(2), candidates[:0], candidates, 10) == []


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_leaving_one_out_is_fitting_without_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features, targets = rng.standard_normal((12, 3)), rng.standard_normal(12)
    fitted = prior(3).updated(features, targets, np.ones(12))
    found = leave_one_out(fitted, features, targets)
    for i in range(12):
        others = np.delete(np.arange(12), i)
        without = prior(3).updated(features[others], targets[others], np.ones(11))
        np.testing.assert_allclose(found[i], targets[i] - features[i] @ without.mean, rtol=1e-6, atol=1e-9)
