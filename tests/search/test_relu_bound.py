"""Bounds of networks with ReLUs, against brute force on a small space."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.search.bound import how_far
from hwnas.search.optimum import Limit
from hwnas.search.region import Region, Regions
from hwnas.search.relu_bound import ReluBound, ReluNetwork, relaxed
from hwnas.search.screen import Screen

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, budget_at
from tiny_space import EVERY, TINY, random_terms

FEATURES = TINY.one_hot(EVERY).astype(np.float64)
SEEDS = st.integers(0, 2**32 - 1)


def random_network(rng: np.random.Generator, features: int, hidden: int = 8) -> ReluNetwork:
    widths = [features, hidden, hidden, 1]
    weights = tuple(rng.normal(size=(a, b)) / np.sqrt(a) for a, b in pairwise(widths))
    return ReluNetwork(weights, tuple(rng.normal(size=width) for width in widths[1:]))


def random_region(rng: np.random.Generator, regions: Regions) -> Region:
    """Of a random walk of splits."""
    region = regions.whole
    for _ in range(rng.integers(6)):
        parts = list(regions.split(region, rng.normal(size=FEATURES.shape[1])))
        region = parts[rng.integers(len(parts))] if parts else region
    return region


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEEDS, st.floats(0, 1), st.sampled_from([1, 8, 1 << 20]))
def test_an_exhausted_search_proves_the_greatest_of_all(seed: int, share: float, enumerated: int) -> None:
    rng = np.random.default_rng(seed)
    network, cost = random_network(rng, FEATURES.shape[1]), random_terms(rng, 0, 1)
    limit = Limit(cost, float(np.quantile(cost.predict(EVERY), share)))
    proof = ReluBound(TINY, network, enumerated=enumerated).prove([limit])
    expected = network.predict(FEATURES)[cost.predict(EVERY) <= limit.limit + 1e-12].max()
    assert proof.greatest == pytest.approx(expected)
    assert expected <= proof.upper_bound + 1e-12
    assert proof.upper_bound == pytest.approx(proof.greatest, abs=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(SEEDS, st.floats(0, 1), st.integers(0, 20))
def test_broken_off_at_any_moment_the_bound_holds(seed: int, share: float, most: int) -> None:
    rng = np.random.default_rng(seed)
    network, cost = random_network(rng, FEATURES.shape[1]), random_terms(rng, -1, 1)
    limit = Limit(cost, float(np.quantile(cost.predict(EVERY), share)))
    proof = ReluBound(TINY, network, regions=most, enumerated=4).prove([limit])
    expected = network.predict(FEATURES)[cost.predict(EVERY) <= limit.limit].max()
    assert proof.greatest <= expected + 1e-9
    assert proof.upper_bound >= expected - 1e-9
    assert proof.regions <= most


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SEEDS)
def test_a_relaxation_lies_above_the_network_in_all_of_its_region(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, regions = random_network(rng, FEATURES.shape[1]), Regions(TINY, [])
    region = random_region(rng, regions)
    inside = TINY.one_hot(regions.architectures(region)).astype(np.float64)
    above = relaxed(network, regions, region)
    assert (inside @ above.coefficients[:, 0] + above.constants[0] >= network.predict(inside) - 1e-9).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SEEDS, st.floats(0, 1))
def test_no_architecture_exceeds_the_greatest_of_a_region_nor_is_lost_by_narrowing_or_splitting(
    seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    costs = [random_terms(rng, -0.5, 1) for _ in range(2)]
    regions = Regions(TINY, [Limit(cost, float(np.quantile(cost.predict(EVERY), share))) for cost in costs])
    region, functions = random_region(rng, regions), rng.normal(size=(FEATURES.shape[1], 3))
    inside = regions.architectures(region)
    assert len(inside) <= regions.count(region)
    if not len(inside):
        return
    worth = TINY.one_hot(inside).astype(np.float64) @ functions
    assert (worth.max(axis=0) <= regions.greatest(region, functions) + 1e-9).all()
    assert (regions.greatest(region, functions) <= regions.unlimited(region, functions) + 1e-9).all()
    narrowed = regions.narrowed(region)
    assert narrowed is not None
    assert set(map(bytes, regions.architectures(narrowed))) == set(map(bytes, inside))
    parts = [regions.architectures(part) for part in regions.split(region, functions[:, 0])]
    assert not parts or sorted(map(bytes, np.concatenate(parts))) == sorted(map(bytes, inside))


def test_where_no_architecture_is_within_the_limits_the_bound_says_so() -> None:
    rng = np.random.default_rng(0)
    network, cost = random_network(rng, FEATURES.shape[1]), random_terms(rng, 0, 1)
    assert ReluBound(TINY, network)([Limit(cost, -1.0)]) == -np.inf


def test_under_a_tight_budget_of_a_real_space_the_bound_is_near_what_was_found() -> None:
    """Few architectures are left there, so that all are looked at; farther up the relaxation is loose."""
    latency, rng = AdditiveLatency(relative_std=0.0), np.random.default_rng(1)
    limit = 1.05 * float(latency.predict(SMALL.smallest_genome)[0][0])
    features = SMALL.one_hot(SMALL.smallest_genome).shape[1]
    network = random_network(rng, features)
    small = ReluNetwork((*network.weights[:-1], 0.01 * network.weights[-1]), (*network.biases[:-1], np.array([0.5])))

    def score(genomes: np.ndarray) -> np.ndarray:
        return small.predict(SMALL.one_hot(genomes).astype(np.float64))

    budget = budget_at(30, latency)
    screen = Screen(SMALL, latency, type(budget)("fake", "latency_ms", limit), SMALL.smallest_genome)
    drawn = screen.sample(rng, 500)
    best = drawn[[np.argmax(score(drawn))]]
    far = how_far(screen, score, best, limit, rng, ReluBound(SMALL, small, seconds=np.inf, regions=2000))
    assert far.upper_bound is not None
    assert far.predicted <= far.upper_bound <= far.predicted + 0.01


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        (((4, 3), (2, 1)), ((3,), (1,)), "layers of shapes"),
        (((4, 3), (3, 2)), ((3,), (2,)), "layers of shapes"),
        (((4, 3), (3, 1)), ((2,), (1,)), "biases of shapes"),
    ],
)
def test_layers_that_do_not_fit_are_refused(weights: tuple, biases: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReluNetwork(tuple(map(np.zeros, weights)), tuple(map(np.zeros, biases)))
