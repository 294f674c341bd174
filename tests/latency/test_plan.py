from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.latency.plan import blocks_at, default_resolutions, make_plan, spread_networks
from hwnas.spaces import get_space, space_names

SMALL = get_space("mobilenet_v3/small")


@pytest.mark.parametrize("name", space_names())
def test_the_blocks_of_all_resolutions_are_the_distinct_blocks_of_the_space(name: str) -> None:
    space = get_space(name)
    assert set(blocks_at(space, space.resolutions)) == set(space.distinct_blocks)
    resolutions = default_resolutions(space)
    assert {space.resolutions[0], space.resolutions[-1]} <= set(resolutions) <= set(space.resolutions)
    assert len(blocks_at(space, resolutions)) <= 640


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_plan_is_reproducible_and_has_every_unit_once(seed: int) -> None:
    plan = make_plan(SMALL, (24, 64), seed, 40, 50)
    units = plan.base + plan.held_out
    keys = [unit.key for unit in units]
    assert len(set(keys)) == len(keys)
    assert plan == make_plan(SMALL, (24, 64), seed, 40, 50)
    roles = [unit.role for unit in units]
    assert roles.count("calibration") == 30 and roles.count("validation") == 50
    assert roles.count(None) == len(blocks_at(SMALL, (24, 64)))


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), stop=st.floats(0.2, 1.0))
def test_a_plan_stopped_early_has_blocks_and_networks_from_everywhere(seed: int, stop: float) -> None:
    base = make_plan(SMALL, SMALL.resolutions, seed, 30, 30).base
    done = base[: int(stop * len(base))]
    blocks = [unit.network.blocks[0] for unit in done if unit.architecture is None]
    assert len(blocks) == pytest.approx(stop * 460, rel=0.15)
    assert {block.op for block in blocks} >= {"mbconv"}
    calibration = [unit for unit in done if unit.role == "calibration"]
    assert len(calibration) >= min(30, int(1.6 * stop * 30))
    # The smallest and the largest are measured first.
    assert {SMALL.smallest, SMALL.largest} <= {unit.architecture for unit in calibration}


def test_more_networks_of_a_role_begin_with_the_fewer() -> None:
    few, _ = spread_networks(SMALL, np.random.default_rng(0), {"calibration": 5, "validation": 7})
    many, _ = spread_networks(SMALL, np.random.default_rng(0), {"calibration": 50, "validation": 20})
    for role, units in few.items():
        assert many[role][: len(units)] == units


@pytest.mark.parametrize("n", [10, 40, 120])
def test_networks_are_spread_evenly_over_the_guessed_latency(n: int) -> None:
    units = spread_networks(SMALL, np.random.default_rng(0), {"calibration": 0, "validation": n})[0]["validation"]
    costs = np.array([sum(block.macs for block in unit.network.blocks) for unit in units], float)
    counts = np.histogram(costs, bins=5)[0]
    assert counts.min() >= 0.4 * n / 5


def test_a_tiny_space_gives_as_many_networks_as_it_has() -> None:
    networks, pool = spread_networks(SMALL, np.random.default_rng(0), {"calibration": 0, "validation": 0})
    assert networks == {"calibration": [], "validation": []}
    assert len(pool) > 1000


def test_no_network_that_may_be_fitted_is_ever_held_out() -> None:
    many, pool = spread_networks(SMALL, np.random.default_rng(0), {"calibration": 30, "validation": 4000})
    held_out = {unit.architecture for unit in many["validation"]}
    assert held_out.isdisjoint(SMALL.decode(pool))
    assert held_out.isdisjoint(unit.architecture for unit in many["calibration"])
