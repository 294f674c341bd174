"""Several budgets at once."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import InfeasibleBudgetError, UserError
from hwnas.graphs import network_graph
from hwnas.search import Budget, SearchOptions, run_search
from hwnas.search.budget import Quantity
from hwnas.search.constraints import ArchitectureQuantity, Constraint, architecture_constraint
from hwnas.search.feasibility import require_feasible
from hwnas.search.options import STRATEGIES
from hwnas.search.record import SearchHeader
from hwnas.search.screen import Screen
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy, budget_at

QUANTITIES: tuple[Quantity, ...] = ("model_mb", "macs", "params", "activation_mib")
LATENCY = AdditiveLatency()
OTHER = AdditiveLatency(seed=7)


@cache
def upper_sides() -> np.ndarray:
    """Of the other device's predictions for many random architectures."""
    mean, std = OTHER.predict(SMALL.sample(np.random.default_rng(1), 20_000))
    return mean + 1.645 * std


def on_another(percentile: float) -> Constraint:
    return Constraint(Budget("other", "latency_ms", float(np.percentile(upper_sides(), percentile))), OTHER)


@cache
def median(quantity: Quantity) -> float:
    sample = SMALL.sample(np.random.default_rng(2), 5000)
    return float(np.median(ArchitectureQuantity(SMALL, quantity).predict(sample)[0]))


@pytest.mark.parametrize("name", ["mobilenet_v3/small", "mobilenet_v3/imagenet-w1.0"])
def test_model_size_is_that_of_the_exported_file(name: str) -> None:
    """The file holds the graph beside the weights: some kilobytes."""
    space = get_space(name)
    genomes = space.sample(np.random.default_rng(0), 3)
    megabytes, spread = ArchitectureQuantity(space, "model_mb").predict(genomes)
    for architecture, mb in zip(space.decode(genomes), megabytes, strict=True):
        file = network_graph(space.blocks(architecture)).SerializeToString()
        assert 0 < len(file) / 1e6 - mb < 0.05
    assert not spread.any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_candidate_keeps_every_budget(tmp_path: Path, strategy: str) -> None:
    accuracy = SyntheticAccuracy()
    others = [on_another(40), *(architecture_constraint(SMALL, q, median(q)) for q in QUANTITIES)]
    budget = budget_at(60, LATENCY)
    options = SearchOptions(strategy=strategy, evaluations=12, initial=8, batch=4)
    result = run_search(SMALL, LATENCY, budget, accuracy, tmp_path, options, others=others)
    assert len(result.evaluations) == 12
    for evaluation in result.evaluations:
        genome = SMALL.encode([evaluation.architecture])
        assert Screen(SMALL, LATENCY, budget, genome, others).keeps(genome).all()
        assert len(evaluation.others) == len(others)
        for constraint, estimate in zip(others, evaluation.others, strict=True):
            assert estimate.mean + constraint.budget.z * estimate.std <= constraint.budget.limit
            assert estimate.mean == constraint.predictor.predict(genome)[0][0]


def test_a_search_goes_on_only_with_the_same_budgets(tmp_path: Path) -> None:
    budget, macs = budget_at(60, LATENCY), median("macs")
    options = SearchOptions(strategy="random", evaluations=4)

    def search(*others: Constraint) -> None:
        run_search(SMALL, LATENCY, budget, SyntheticAccuracy(), tmp_path, options, others=others)

    search(architecture_constraint(SMALL, "macs", macs))
    search(architecture_constraint(SMALL, "macs", macs))
    for others in ((), (architecture_constraint(SMALL, "macs", 2 * macs),), (on_another(50),)):
        with pytest.raises(UserError, match="holds a search with others"):
            search(*others)
    header = SearchHeader.model_validate_json((tmp_path / "search.json").read_text())
    assert [other.budget.quantity for other in header.others] == ["macs"]


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_budget_that_nothing_keeps_is_named_with_its_least_value(quantity: Quantity) -> None:
    least = ArchitectureQuantity(SMALL, quantity).predict(SMALL.smallest_genome)[0][0]
    budget = budget_at(60, LATENCY)
    others = [on_another(50), architecture_constraint(SMALL, quantity, 0.99 * least)]
    with pytest.raises(InfeasibleBudgetError) as refused:
        require_feasible(SMALL, LATENCY, budget, others=others)
    assert f"the least possible is {others[1].budget.amount(least)}" in str(refused.value)
    others[1] = architecture_constraint(SMALL, quantity, least)
    feasible = require_feasible(SMALL, LATENCY, budget, others=others)
    assert Screen(SMALL, LATENCY, budget, feasible.start, others).keeps(feasible.start).all()


def test_budgets_that_exclude_each_other_are_named_with_the_least_of_one() -> None:
    """Few operations ask for a low resolution, but a device that is slow at low resolutions asks for a high one."""

    class SlowWhenSmall:
        def predict(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            ms = 10.0 - genomes[:, SMALL.position("resolution")]
            return ms.astype(float), np.zeros(len(genomes))

    strange = Constraint(Budget("strange", "latency_ms", 3.0), SlowWhenSmall())
    least = ArchitectureQuantity(SMALL, "macs").predict(SMALL.smallest_genome)[0][0]
    with pytest.raises(InfeasibleBudgetError, match=r"all budgets at once: where .* kept, the least found .* raise"):
        require_feasible(
            SMALL, LATENCY, budget_at(99, LATENCY), others=[strange, architecture_constraint(SMALL, "macs", least)]
        )


@given(seed=st.integers(0, 2**32 - 1), tight=st.floats(5, 60), share=st.floats(0.7, 1.3))
def test_excess_is_of_the_budget_that_is_broken_most(seed: int, tight: float, share: float) -> None:
    genomes = SMALL.sample(np.random.default_rng(seed), 40)
    macs = architecture_constraint(SMALL, "macs", share * median("macs"))
    screen = Screen(SMALL, LATENCY, budget_at(tight, LATENCY), SMALL.smallest_genome, [on_another(tight), macs])
    each = np.array([constraint.excess(genomes) for constraint in screen.constraints])
    np.testing.assert_array_equal(screen.excess(genomes), each.max(axis=0))
    np.testing.assert_array_equal(screen.keeps(genomes), (each <= 0).all(axis=0))


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_are_positive_numbers(limit: float) -> None:
    with pytest.raises(UserError, match="positive number of MACs"):
        architecture_constraint(SMALL, "macs", limit)
