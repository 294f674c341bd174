from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.search import Budget, GaussianProcess, fastest
from hwnas.search.constraints import ArchitectureQuantity, architecture_constraint
from hwnas.search.explain import Explanation, explain
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture, Genomes

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, AdditiveLatency, SyntheticAccuracy

LATENCY = AdditiveLatency()


class Known:
    """A predictor that knows the formula."""

    def __init__(self) -> None:
        self.accuracy = SyntheticAccuracy(noise=0.0)

    def fit(self, genomes: Genomes, top1: np.ndarray) -> None:
        raise AssertionError("it is asked as it is")

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        return self.accuracy.true(genomes), np.full(len(genomes), 1e-3)


def screen_at(genome: Genomes) -> Screen:
    """A budget that the architecture keeps closely."""
    mean, std = LATENCY.predict(genome)
    return Screen(SMALL, LATENCY, Budget("fake", "latency_ms", 1.001 * float((mean + 1.645 * std)[0])), genome)


def after(architecture: Architecture, explained: Explanation, label: str, way: str) -> Genomes:
    """The architecture with a move of the explanation applied."""
    effect = next(effect for effect in explained.choices if effect.label == label)
    move = getattr(effect, way)
    choices = dict(architecture.choices)
    for change in move.changes:
        assert choices.pop(change.label, None) == change.before
        if change.after is not None:
            choices[change.label] = change.after
    ordered = tuple((c.label, choices[c.label]) for c in SMALL.choices if c.label in choices)
    return SMALL.encode([Architecture(SMALL.name, ordered)])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_move_says_truly_what_it_buys_and_costs(seed: int) -> None:
    genome = SMALL.sample(np.random.default_rng(seed), 1)
    architecture, known = SMALL.decode(genome)[0], Known()
    explained = explain(screen_at(genome), known, genome)
    assert [effect.label for effect in explained.choices] == [label for label, _ in architecture.choices]
    for effect in explained.choices:
        values = next(choice.values for choice in SMALL.choices if choice.label == effect.label)
        assert (effect.lower is None) == (effect.value == values[0])
        assert (effect.higher is None) == (effect.value == values[-1])
        for way in ("lower", "higher"):
            move = getattr(effect, way)
            if move is None:
                continue
            changed = after(architecture, explained, effect.label, way)
            assert move.top1 == pytest.approx(known.predict(changed)[0][0] - explained.top1, abs=1e-12)
            assert move.latency_ms == pytest.approx(LATENCY.predict(changed)[0][0] - explained.latency_ms, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_changed_budget_is_kept_by_the_moves_that_are_told(seed: int) -> None:
    genome = SMALL.sample(np.random.default_rng(seed), 1)
    screen, known = screen_at(genome), Known()
    explained = explain(screen, known, genome)
    limit = screen.budget.limit
    assert explained.grown.limit_ms == pytest.approx(1.1 * limit)
    assert explained.shrunk.limit_ms == pytest.approx(0.9 * limit)
    assert explained.grown.keeps
    assert explained.grown.top1 >= explained.top1
    if explained.shrunk.keeps:
        assert explained.shrunk.moves
        assert explained.shrunk.latency_ms < 0.9 * limit
    for changed in (explained.grown, explained.shrunk):
        total = sum(move.latency_ms for move in changed.moves)
        assert changed.latency_ms == pytest.approx(explained.latency_ms + total)
        assert changed.top1 == pytest.approx(explained.top1 + sum(move.top1 for move in changed.moves))


def test_what_grows_keeps_the_other_budgets() -> None:
    genome = SMALL.sample(np.random.default_rng(5), 1)
    macs = ArchitectureQuantity(SMALL, "macs").predict(genome)[0][0]
    alone = screen_at(genome)
    other = (architecture_constraint(SMALL, "macs", macs),)
    both = Screen(SMALL, LATENCY, alone.budget, genome, other)
    assert explain(alone, Known(), genome).grown.top1 > explain(both, Known(), genome).grown.top1


def test_the_fastest_cannot_shrink_and_says_so() -> None:
    genome = SMALL.encode([fastest(SMALL, LATENCY)[0]])
    explained = explain(screen_at(genome), Known(), genome)
    assert not explained.shrunk.keeps
    assert explained.shrunk.moves == ()


def test_it_explains_by_what_a_search_learned() -> None:
    genomes = SMALL.sample(np.random.default_rng(0), 60)
    predictor = GaussianProcess(SMALL)
    predictor.fit(genomes, SyntheticAccuracy().true(genomes))
    explained = explain(screen_at(genomes[:1]), predictor, genomes[:1])
    assert explained == Explanation.model_validate_json(explained.model_dump_json(by_alias=True))
    assert any(effect.higher and effect.higher.top1 > 0 for effect in explained.choices)
