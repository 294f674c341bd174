from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.devices import Arrival, load_target
from hwnas.errors import InfeasibleBudgetError, UserError
from hwnas.search import Budget, fastest
from hwnas.search.feasibility import require_feasible
from hwnas.search.screen import Screen, distinct
from hwnas.spaces import Choice, Slot, Space, get_space
from hwnas.spaces.block import BlockSpec

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, budget_at


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_limit_that_is_no_positive_number_is_refused(limit: float) -> None:
    with pytest.raises(UserError, match="positive number of milliseconds"):
        Budget("host-cpu", "latency_ms", limit)


@pytest.mark.parametrize("confidence", [0.2, 1.0, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(UserError, match="confidence"):
        Budget("host-cpu", "latency_ms", 1.0, confidence=confidence)


def test_a_budget_says_what_it_limits() -> None:
    target = load_target("host-cpu")
    plain = Budget.on(target, 0.1)
    assert (str(plain), plain.gated) == ("0.1 ms", True)
    board = Budget.on(
        target.model_copy(update={"shared": False}), 0.1, statistic="p99", arrival=Arrival(30.0), confidence=0.9
    )
    assert (str(board), board.gated, board.confidence) == ("0.1 ms (p99, 30 fps)", False, 0.9)
    with pytest.raises(UserError, match=r"p50 or p99 of latency_ms, .*, not the mean"):
        Budget("host-cpu", "latency_ms", 1.0, statistic="mean")  # type: ignore[arg-type]


@given(st.floats(0.01, 100), st.floats(0, 10), st.floats(0.5, 0.999))
def test_a_budget_is_checked_on_the_upper_side(mean: float, std: float, confidence: float) -> None:
    budget = Budget("host-cpu", "latency_ms", 10.0, confidence=confidence)
    means, stds = np.array([mean]), np.array([std])
    assert budget.upper(means, stds)[0] >= mean
    assert bool(budget.keeps(means, stds)[0]) == (mean + budget.z * std <= 10.0)


def test_the_fastest_of_an_additive_model_is_the_true_minimum() -> None:
    """Against all architectures of a space that is small enough to count, with times that favour no size."""
    sizes = (1, 2, 3)
    choices = [Choice("resolution", (8, 16, 24)), Choice("stage1.depth", (1, 2, 3))]
    slots = []
    for b in range(1, 4):
        labels = (f"stage1.block{b}.kernel", f"stage1.block{b}.expansion")
        choices += [Choice(label, sizes, "stage1.depth", b - 1) for label in labels]

        def build(resolution: int | None, kernel: int | None, expansion: int | None, b: int = b) -> BlockSpec | None:
            if resolution is None or kernel is None or expansion is None:
                return None
            return BlockSpec("conv", b, resolution, resolution, expansion, kernel=2 * kernel + 1)

        slots.append(Slot(f"stage1.block{b}", ("resolution", *labels), build))
    space = Space("toy", "toy", 2, choices, slots)
    everything = distinct(space.sample(np.random.default_rng(0), 60_000))
    assert len(everything) == space.count
    for seed in range(8):
        model = AdditiveLatency(space)
        model.block_ms = np.random.default_rng(seed).uniform(0.1, 1.0, len(space.distinct_blocks))
        architecture, ms = fastest(space, model)
        assert ms == pytest.approx(model.predict(everything)[0].min())
        assert model.predict(space.encode([architecture]))[0][0] == pytest.approx(ms)


@pytest.mark.parametrize("name", ["mobilenet_v3/small", "mobilenet_v3/imagenet-w1.2"])
def test_no_random_architecture_is_faster_than_the_fastest(name: str) -> None:
    space = get_space(name)
    model = AdditiveLatency(space)
    _, ms = fastest(space, model)
    assert ms <= model.predict(space.sample(np.random.default_rng(0), 50_000))[0].min()


def test_an_infeasible_budget_names_the_fastest_and_its_measured_latency() -> None:
    model = AdditiveLatency()
    architecture, ms = fastest(SMALL, model)
    budget = Budget("fake", "latency_ms", ms / 2)
    with pytest.raises(InfeasibleBudgetError, match=rf"{architecture.id}, takes {ms:.4g} ms by prediction"):
        require_feasible(SMALL, model, budget)
    asked = []
    with pytest.raises(InfeasibleBudgetError, match=rf"{architecture.id}, takes 0\.4242 ms as measured"):
        require_feasible(SMALL, model, budget, lambda a: asked.append(a) or 0.4242)
    assert asked == [architecture]
    assert InfeasibleBudgetError.exit_code == 2


def test_a_budget_kept_only_as_measured_is_refused_with_the_truth() -> None:
    model = AdditiveLatency(relative_std=0.5)
    _, ms = fastest(SMALL, model)
    with pytest.raises(InfeasibleBudgetError, match=r"keeps .* as measured .* but not by the latency model"):
        require_feasible(SMALL, model, Budget("fake", "latency_ms", 1.1 * ms), lambda _: ms)


@pytest.mark.parametrize("percentile", [0.0, 0.01, 1, 50, 100])
def test_samples_are_distinct_and_keep_the_budget(percentile: float) -> None:
    model = AdditiveLatency()
    budget = budget_at(percentile, model)
    screen = Screen(SMALL, model, budget, SMALL.encode([fastest(SMALL, model)[0]]))
    sample = screen.sample(np.random.default_rng(0), 200)
    assert len(distinct(sample)) == len(sample) == 200
    assert SMALL.valid(sample).all()
    assert budget.keeps(*model.predict(sample)).all()


def test_a_budget_that_only_the_fastest_keeps_gives_a_sample_of_one() -> None:
    model = AdditiveLatency(relative_std=0.0)
    architecture, ms = fastest(SMALL, model)
    screen = Screen(SMALL, model, Budget("fake", "latency_ms", ms * (1 + 1e-9)), SMALL.encode([architecture]))
    assert SMALL.decode(screen.sample(np.random.default_rng(0), 10)) == [architecture]
