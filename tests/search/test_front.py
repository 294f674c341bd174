"""The Pareto front: what it holds, and a search for the whole of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import UserError
from hwnas.search import Budget, Evaluation, SearchOptions, SearchResult, run_search
from hwnas.search.constraints import architecture_constraint
from hwnas.search.feasibility import fastest
from hwnas.search.pareto import pareto_front
from hwnas.search.record import Estimate
from hwnas.search.screen import Screen

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy, budget_at

LEVELS = 12
AMOUNTS = st.integers(0, 4)


def evaluation(index: int, ms: int, macs: int, top1: int) -> Evaluation:
    return Evaluation(
        index=index,
        strategy="random",
        origin="random",
        architecture=SMALL.smallest,
        top1=top1 / 10,
        predicted_ms=ms,
        std_ms=0,
        others=(Estimate(mean=macs, std=0),),
        seconds=0,
    )


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, AMOUNTS), max_size=30))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int, int]]) -> None:
    evaluations = [evaluation(i, *point) for i, point in enumerate(points)]
    costs = np.array([(ms, macs, -top1) for ms, macs, top1 in points]).reshape(-1, 3)
    dominated = [((costs <= own).all(axis=1) & (costs < own).any(axis=1)).any() for own in costs]
    repeated = [point in points[:i] for i, point in enumerate(points)]
    expected = {i for i in range(len(points)) if not dominated[i] and not repeated[i]}
    front = pareto_front(evaluations)
    assert {each.index for each in front} == expected
    assert [each.predicted_ms for each in front] == sorted(each.predicted_ms for each in front)


def search(directory: Path, objective: str, seed: int, accuracy: SyntheticAccuracy) -> SearchResult:
    latency = AdditiveLatency()
    options = SearchOptions.model_validate({"objective": objective, "evaluations": 32, "initial": 8, "seed": seed})
    return run_search(SMALL, latency, budget_at(90, latency), accuracy, directory, options)


def best_below(result: SearchResult, accuracy: SyntheticAccuracy, limits: np.ndarray) -> float:
    """True accuracy of the best evaluated within each limit, mean over the limits; the smallest's where none is."""
    least = accuracy.true(SMALL.smallest_genome)[0]
    found = [
        max((e for e in result.evaluations if e.predicted_ms <= x), key=lambda e: e.top1, default=None) for x in limits
    ]
    return float(np.mean([accuracy.true(SMALL.encode([e.architecture]))[0] if e else least for e in found]))


def test_a_front_is_better_all_along_than_what_the_search_for_one_winner_leaves(tmp_path: Path) -> None:
    gains = []
    for seed in range(2):
        accuracy = SyntheticAccuracy(seed=seed)
        results = {name: search(tmp_path / f"{name}{seed}", name, seed, accuracy) for name in ("front", "accuracy")}
        latency = AdditiveLatency()
        limits = np.linspace(1.1 * fastest(SMALL, latency)[1], budget_at(90, latency).limit, LEVELS)
        below = {name: best_below(result, accuracy, limits) for name, result in results.items()}
        gains.append(below["front"] - below["accuracy"])
        assert len(results["front"].front) > len(results["accuracy"].front)
        assert results["front"].front[0].architecture == fastest(SMALL, latency)[0]
    assert min(gains) > 0


def test_a_front_under_several_budgets_keeps_all(tmp_path: Path) -> None:
    latency = AdditiveLatency()
    limit = float(np.median(SMALL.params(SMALL.sample(np.random.default_rng(0), 500))))
    others = [architecture_constraint(SMALL, "params", limit)]
    options = SearchOptions(objective="front", evaluations=16, initial=8, batch=4)
    budget = budget_at(60, latency)
    result = run_search(SMALL, latency, budget, SyntheticAccuracy(), tmp_path, options, others=others)
    genomes = SMALL.encode([e.architecture for e in result.evaluations])
    assert len(genomes) == 16 == len({e.architecture.id for e in result.evaluations})
    assert (SMALL.params(genomes) <= limit).all()
    assert budget.keeps(*latency.predict(genomes)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_tightened_budgets_are_kept_by_whom_they_are_tightened_to(seed: int) -> None:
    latency = AdditiveLatency()
    others = (architecture_constraint(SMALL, "macs", 4e6),)
    screen = Screen(SMALL, latency, Budget("fake", "latency_ms", 10.0), SMALL.smallest_genome, others)
    rng = np.random.default_rng(seed)
    genomes = screen.sample(rng, 50)
    tight = screen.tightened(genomes[:1])
    assert tight.keeps(genomes)[0]
    kept = genomes[tight.keeps(genomes)]
    assert (SMALL.macs(kept) <= SMALL.macs(genomes[:1]) * 1.0001).all()
    assert screen.keeps(kept).all()


def test_a_strategy_that_seeks_no_front_is_refused() -> None:
    with pytest.raises(UserError, match="'tpe' seeks the most accurate architecture alone; a front is sought by hwnas"):
        SearchOptions(strategy="tpe", objective="front")
