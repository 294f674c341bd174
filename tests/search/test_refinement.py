"""What finalists teach about networks like them, on a device that is slower there than the model says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.devices import Statistics
from hwnas.search import Evaluation, Finalist, Refinement, SearchOptions, run_search
from hwnas.search.finalists import Measured
from hwnas.search.refinement import PRIOR_STD, REFINED_CANDIDATES, CorrectedLatency, Correction

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy, budget_at

NOWHERE = Measured(Statistics.of([]), None)


def measured(evaluations: Sequence[Evaluation], factor: float) -> list[Finalist]:
    """Finalists that took ``factor`` times what was predicted, give or take half a per cent."""
    rng = np.random.default_rng(0)
    return [
        Finalist(
            e.architecture, e.top1, NOWHERE, NOWHERE, (), e.predicted_ms * factor * rng.normal(1, 0.005), True, True, ()
        )
        for e in evaluations
    ]


@given(st.floats(0.9, 1.1), st.integers(1, 40))
def test_the_offset_is_learned_between_the_prior_and_what_was_measured(factor: float, n: int) -> None:
    mean = np.linspace(0.1, 0.2, n)
    correction = Correction.learn(mean, 0.01 * mean, factor * mean)
    assert abs(correction.log_offset) <= abs(np.log(factor)) + 1e-12
    assert correction.log_offset * np.log(factor) >= 0
    assert correction.log_offset_std == pytest.approx((PRIOR_STD**-2 + n * 0.01**-2) ** -0.5)
    assert correction.inflation >= 1


def test_nothing_measured_is_the_prior_and_scattered_measurements_inflate_the_spread() -> None:
    nothing = Correction.learn(np.empty(0), np.empty(0), np.empty(0))
    assert (nothing.log_offset, nothing.log_offset_std, nothing.inflation) == (0.0, pytest.approx(PRIOR_STD), 1.0)
    mean = np.full(10, 0.1)
    scattered = mean * np.exp(0.05 * np.array([1, -1] * 5))
    wide = Correction.learn(mean, 0.01 * mean, scattered)
    assert wide.inflation > 3
    model = AdditiveLatency()
    genomes = SMALL.sample(np.random.default_rng(0), 50)
    (plain, plain_std), (corrected, std) = model.predict(genomes), CorrectedLatency(model, wide).predict(genomes)
    np.testing.assert_allclose(corrected, plain * np.exp(wide.log_offset))
    assert (std / corrected > 3 * plain_std / plain).all()


@pytest.mark.parametrize("factor", [0.96, 1.0, 1.04])
def test_refined_candidates_fill_the_budget_as_the_device_really_is(tmp_path: Path, factor: float) -> None:
    latency, accuracy = AdditiveLatency(), SyntheticAccuracy()
    budget = budget_at(40, latency)
    first = run_search(SMALL, latency, budget, accuracy, tmp_path, SearchOptions(evaluations=24))
    before = len(accuracy.visited)
    refinement = Refinement(SMALL, latency, budget, accuracy, first.evaluations, tmp_path / "refined", seed=0)
    finalists = measured(first.finalists(), factor)
    found = refinement.search(finalists)
    assert len(found) == REFINED_CANDIDATES == 24 // 3 == len(accuracy.visited) - before
    assert not {e.architecture for e in found} & {e.architecture for e in first.evaluations}
    true_ms = factor * latency.predict(SMALL.encode([e.architecture for e in found]))[0]
    assert (true_ms <= 1.01 * budget.limit).all()
    assert true_ms.max() >= 0.97 * budget.limit
    # Measured again, the finalists would teach a little else: what was learned once stands, and nothing is repeated.
    assert refinement.search(measured(first.finalists(), 1.02)) == found
    assert len(accuracy.visited) == before + REFINED_CANDIDATES


def test_where_nothing_keeps_the_budget_by_what_was_learned_there_are_none(tmp_path: Path) -> None:
    latency, accuracy = AdditiveLatency(), SyntheticAccuracy()
    budget = budget_at(0.001, latency)
    first = run_search(SMALL, latency, budget, accuracy, tmp_path, SearchOptions(evaluations=4))
    refinement = Refinement(SMALL, latency, budget, accuracy, first.evaluations, tmp_path / "refined", seed=0)
    assert refinement.search(measured(first.finalists(), 3.0)) == ()
