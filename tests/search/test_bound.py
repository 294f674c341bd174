"""How far the best found is from the best, by a predictor."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.search.additive import AdditiveTerms
from hwnas.search.bound import how_far, how_far_evaluated, informative
from hwnas.search.evolution import evolve
from hwnas.search.record import Evaluation
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy, budget_at


def additive_accuracy() -> AdditiveTerms:
    rng = np.random.default_rng(5)
    worth = [np.sort(rng.uniform(0, 0.01, len(choice.values))) for choice in SMALL.choices]
    return AdditiveTerms.of_choices(SMALL, 0.5, worth)


def screened() -> Screen:
    latency = AdditiveLatency()
    return Screen(SMALL, latency, budget_at(30, latency), SMALL.smallest_genome)


def test_of_an_additive_predictor_the_optimum_is_found_and_evolution_comes_near_it() -> None:
    screen, accuracy, rng = screened(), additive_accuracy(), np.random.default_rng(0)
    best = evolve(screen, accuracy.predict, rng, screen.sample(rng, 200))[:1]
    assert screen.keeps(best).all()
    found = how_far(screen, accuracy.predict, best, screen.budget.limit, rng)
    assert found.additive is not None
    assert found.additive.proved
    assert found.additive.r2 == pytest.approx(1, abs=1e-3)
    assert found.additive.predicted == pytest.approx(found.additive.value, abs=1e-3)
    # The optimum may use what the spread takes from the evolution, and no more.
    assert found.predicted <= found.additive.value + 1e-3
    assert found.predicted >= found.additive.value - 0.01
    assert found.upper_bound is None


def test_a_bound_is_stated_only_where_it_says_something() -> None:
    assert informative(None, 0.8) is None
    assert informative(0.805, 0.8) == 0.805
    assert informative(0.82, 0.8) is None
    assert informative(1.002, 0.998) is None
    screen, accuracy, rng = screened(), additive_accuracy(), np.random.default_rng(0)
    best = screen.sample(rng, 1)
    predicted = float(accuracy.predict(best)[0])
    far = how_far(screen, accuracy.predict, best, screen.budget.limit, rng, lambda _: predicted + 0.1)
    near = how_far(screen, accuracy.predict, best, screen.budget.limit, rng, lambda _: predicted + 0.005)
    assert far.upper_bound is None
    assert near.upper_bound == pytest.approx(predicted + 0.005)


def test_without_an_additive_latency_nothing_is_claimed() -> None:
    class Product(AdditiveLatency):
        def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
            mean, std = super().predict(genomes)
            return mean**2, std

    latency = Product()
    screen = Screen(SMALL, latency, budget_at(30, latency), SMALL.smallest_genome)
    rng = np.random.default_rng(0)
    found = how_far(screen, additive_accuracy().predict, screen.sample(rng, 1), screen.budget.limit, rng, lambda _: 0.5)
    assert found.additive is None
    assert found.upper_bound is None


def test_what_a_search_evaluated_tells_how_far_its_best_is() -> None:
    screen, accuracy = screened(), SyntheticAccuracy()
    architectures = SMALL.decode(screen.sample(np.random.default_rng(1), 40))
    evaluations = [
        Evaluation(
            index=i,
            strategy="random",
            origin="random",
            architecture=architecture,
            top1=accuracy(architecture),
            predicted_ms=1,
            std_ms=0,
            seconds=0,
        )
        for i, architecture in enumerate(architectures)
    ]
    found = how_far_evaluated(screen, evaluations, architectures[0])
    assert found is not None and found.additive is not None
    assert found.additive.proved and found.upper_bound is None
    assert found.mean_limit_ms == screen.budget.limit
    optimum = SMALL.encode([found.additive.architecture])
    assert screen.latency(optimum)[0] <= screen.budget.limit * (1 + 1e-9)
    assert how_far_evaluated(screen, evaluations[:1], architectures[0]) is None
    assert type(found).model_validate_json(found.model_dump_json(by_alias=True)) == found
