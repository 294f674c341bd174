"""How fast boards are beside each other, from their canaries and from networks that several of them measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.latency.speeds import FURTHEST, Speed, between_boards, board_speeds, furthest_off

SPEEDS = st.dictionaries(st.text("abcdefgh", min_size=1), st.floats(0.9, 1.1), min_size=2, max_size=6)
QUICK = settings(max_examples=15, deadline=None, derandomize=True)


def networks(
    factors: Mapping[str, float], n: int, noise: float = 0.0, seed: int = 0, some: bool = False
) -> list[dict[str, float]]:
    """Latencies in ms; ``some``: each of two boards, neighbours in a ring."""
    rng, names = np.random.default_rng(seed), list(factors)
    found = []
    for i in range(n):
        ms = float(rng.uniform(0.1, 5.0))
        boards = {names[i % len(names)], names[(i + 1) % len(names)]} if some else names
        found.append({name: ms * factors[name] * float(np.exp(noise * rng.standard_normal())) for name in boards})
    return found


def relative(factors: Mapping[str, float]) -> dict[str, float]:
    mean = np.exp(np.mean(np.log(list(factors.values()))))
    return {name: factor / mean for name, factor in factors.items()}


def found(speeds: Mapping[str, Speed]) -> dict[str, float]:
    return {name: speed.factor for name, speed in speeds.items()}


@given(SPEEDS, st.booleans())
@QUICK
def test_boards_that_differ_by_a_factor_alone_are_known_exactly(factors: dict[str, float], some: bool) -> None:
    canaries = {name: 0.1 * factor for name, factor in factors.items()}
    speeds = board_speeds(canaries, networks(factors, 12, some=some))
    assert found(speeds) == pytest.approx(relative(factors), rel=1e-9)
    backwards = dict(reversed(canaries.items()))
    assert found(board_speeds(backwards, networks(factors, 12, some=some)[::-1])) == pytest.approx(found(speeds))


@given(SPEEDS, st.floats(0.95, 1.05))
@QUICK
def test_networks_are_believed_more_than_a_canary_that_tells_otherwise(factors: dict[str, float], off: float) -> None:
    first = next(iter(factors))
    canaries = {name: 0.1 * factor * (off if name == first else 1.0) for name, factor in factors.items()}
    speeds = board_speeds(canaries, networks(factors, 80))
    assert found(speeds) == pytest.approx(relative(factors), rel=4e-3)


@given(SPEEDS)
@QUICK
def test_without_networks_the_canary_tells_and_without_either_nothing_does(factors: dict[str, float]) -> None:
    canaries: dict[str, float | None] = {name: 0.1 * factor for name, factor in factors.items()}
    told = board_speeds(canaries, [])
    assert found(told) == pytest.approx(relative(factors))
    assert all(0.01 < speed.spread <= 0.02 for speed in told.values())
    canaries[next(iter(factors))] = None
    unknown = board_speeds(canaries, [])
    assert all(speed.factor == 1.0 and speed.spread > 0.05 for speed in unknown.values())
    alone = {name: {name: 1.0} for name in factors}
    assert board_speeds(canaries, list(alone.values())) == unknown, "what one board measured compares nothing"


def test_the_spread_is_how_far_a_factor_is_off() -> None:
    factors = {"a": 0.97, "b": 1.0, "c": 1.03}
    truth, distances = relative(factors), []
    for seed in range(60):
        speeds = board_speeds(factors, networks(factors, 12, noise=0.015, seed=seed))
        distances += [(speeds[name].factor / true - 1) / speeds[name].spread for name, true in truth.items()]
    assert 0.7 < np.std(distances) < 1.4


def test_a_measurement_that_was_spoilt_moves_no_board() -> None:
    factors = {"a": 0.98, "b": 1.0, "c": 1.02}
    measured = networks(factors, 6, noise=0.003)
    measured[0]["a"] *= 1.5
    assert found(board_speeds(dict.fromkeys(factors, 0.1), measured)) == pytest.approx(relative(factors), rel=0.006)


def speeds_of(factors: Sequence[float], spread: float = 0.001) -> dict[str, Speed]:
    return {f"board{i}": Speed(factor, spread) for i, factor in enumerate(factors)}


def test_what_differs_between_boards_is_more_than_what_is_not_known_of_them() -> None:
    assert between_boards(speeds_of([0.97, 1.03])) == pytest.approx(np.std(np.log([0.97, 1.03]), ddof=1), rel=0.01)
    assert between_boards(speeds_of([0.99, 1.01], spread=0.05)) == 0.0
    assert between_boards(speeds_of([1.0])) == 0.0


@pytest.mark.parametrize(
    ("factors", "spread", "expected"),
    [
        ([1.0, 1.0, 1.05], 0.001, ()),
        ([1.0, 1.0, 1.0, 1.2], 0.001, ("board3",)),
        ([0.8, 1.0, 1.0], 0.001, ("board0",)),
        ([0.96, 1.04], 0.001, ()),
        ([0.9, 1.1], 0.001, ("board0", "board1")),
        ([1.0, 1.0, 1.0, 1.2], 0.06, ()),
        ([1.0], 0.001, ()),
        ([], 0.001, ()),
    ],
)
def test_a_board_that_is_surely_too_far_off_is_named(
    factors: list[float], spread: float, expected: tuple[str, ...]
) -> None:
    names, off = furthest_off(speeds_of(factors, spread))
    assert names == expected
    assert (abs(off) > FURTHEST * 0.9) == bool(expected)
