"""Sums over blocks and their optimum, against brute force on a small space."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.search.additive import AdditiveTerms, explained
from hwnas.search.optimum import BestFirst, Limit, optimum
from hwnas.spaces import Genomes, get_space

sys.path.insert(0, str(Path(__file__).parent))
from tiny_space import EVERY, random_terms


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from([3, 64, 4096]), st.booleans())
def test_optimum_is_that_of_brute_force(seed: int, share: float, cells: int, two: bool) -> None:
    rng = np.random.default_rng(seed)
    values, costs = random_terms(rng, -1, 1), [random_terms(rng, -0.5, 1) for _ in range(1 + two)]
    limits = [Limit(cost, float(np.quantile(cost.predict(EVERY), share))) for cost in costs]
    keeps = np.all([limit.terms.predict(EVERY) <= limit.limit + 1e-12 for limit in limits], axis=0)
    found = optimum(values, limits, cells=cells)
    if not keeps.any():
        assert found is None
        return
    assert found is not None
    assert found.proved
    assert found.value == pytest.approx(values.predict(EVERY)[keeps].max())
    assert values.predict(found.genome)[0] == pytest.approx(found.value)
    assert all(limit.terms.predict(found.genome)[0] <= limit.limit + 1e-9 for limit in limits)


def test_all_architectures_come_best_first() -> None:
    rng = np.random.default_rng(0)
    values, cost = random_terms(rng, -1, 1), random_terms(rng, 0, 1)
    limit = float(np.median(cost.predict(EVERY)))
    found = list(BestFirst(values, [Limit(cost, limit)], 50).architectures())
    assert len(np.unique(np.concatenate([genome for _, genome in found]), axis=0)) == len(found)
    expected = np.sort(values.predict(EVERY)[cost.predict(EVERY) <= limit])[::-1]
    np.testing.assert_allclose([value for value, _ in found], expected)


def test_broken_off_it_gives_a_valid_bound_and_an_architecture_within_the_limit() -> None:
    space = get_space("mobilenet_v3/small")
    macs = AdditiveTerms.of(space, space.macs)
    rng = np.random.default_rng(3)
    worth = AdditiveTerms.of_choices(space, 0.0, [rng.normal(size=len(choice.values)) for choice in space.choices])
    assert macs is not None
    limit = 1.2 * float(space.macs(space.smallest_genome)[0])
    exact = optimum(worth, [Limit(macs, limit)])
    rough = optimum(worth, [Limit(macs, limit)], cells=8, max_nodes=5)
    assert exact is not None
    assert rough is not None
    assert exact.proved
    assert not rough.proved
    assert rough.value <= exact.value <= rough.upper_bound
    assert space.macs(rough.genome)[0] <= limit


def test_terms_are_read_from_sums_and_from_nothing_else() -> None:
    space = get_space("mobilenet_v3/small")
    genomes = space.sample(np.random.default_rng(1), 200)
    terms = AdditiveTerms.of(space, space.macs)
    assert terms is not None
    np.testing.assert_allclose(terms.predict(genomes), space.macs(genomes))
    np.testing.assert_allclose(terms.normalised().predict(genomes), space.macs(genomes))
    assert AdditiveTerms.of(space, lambda rows: np.log(space.macs(rows))) is None


def test_a_fit_finds_the_terms_of_a_sum() -> None:
    space = get_space("mobilenet_v3/small")
    rng = np.random.default_rng(2)
    worth = [rng.normal(size=len(choice.values)) for choice in space.choices]
    true = AdditiveTerms.of_choices(space, 0.5, worth)

    def sampled(n: int) -> tuple[Genomes, np.ndarray]:
        genomes = space.sample(rng, n)
        return genomes, true.predict(genomes)

    fitted, (unseen, values) = AdditiveTerms.fit(space, *sampled(400)), sampled(200)
    r2 = explained(values, fitted.predict(unseen))
    assert r2 is not None
    assert r2 > 0.999
    assert explained(np.ones(5), np.ones(5)) is None
