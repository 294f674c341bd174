"""Every family is profiled on a simulated board and searched under the table: nothing in between knows any family."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices.simulated import SHARED, SimulatedBoard
from hwnas.graphs import network_graph
from hwnas.latency import ProfileOptions, fit_latency_model, load_table, profile
from hwnas.search import Budget, SearchOptions, run_search
from hwnas.search.additive import AdditiveTerms, groups_of
from hwnas.search.bound import how_far_evaluated
from hwnas.search.screen import Screen
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
from fakes import AdditiveLatency, SyntheticAccuracy

FAMILIES = {
    "proxyless/small": ProfileOptions(networks_only=24, builds=1),
    "resnet/small": ProfileOptions(resolutions=(32,), calibration_networks=24, validation_networks=8, builds=1),
    "fire/small": ProfileOptions(networks_only=40, builds=1),
    "nasnet/small": ProfileOptions(resolutions=(32, 64), calibration_networks=40, validation_networks=8, builds=1),
    "mobilenet_v3-bifpn/small": ProfileOptions(networks_only=24, builds=1),
}


CONNECTED = ("resnet", "fire", "nasnet", "mobilenet_v3-bifpn")
"""Where a block's cost depends on the widths of two stages, or of one and the head, or a choice is one of many blocks
whose number is chosen too, no sum over groups describes the latency."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_table_predicts_its_networks_and_is_searched(name: str, tmp_path: Path) -> None:
    space, board = get_space(name), SimulatedBoard(3, 0, SHARED)
    _, path = profile(board, space, tmp_path, FAMILIES[name], clock=board.clock)
    latency = fit_latency_model(load_table(path), space)
    fresh = space.sample(np.random.default_rng(5), 20)
    models = [network_graph(space.network(each)).SerializeToString() for each in space.decode(fresh)]
    true = np.array([board.true_ms(model) for model in models])
    assert np.abs(latency.predict(fresh)[0] / true - 1).mean() < 0.1, "from so few measurements"

    budget = Budget("simulated", "latency_ms", float(np.quantile(true, 0.4)))
    options = SearchOptions(evaluations=12, initial=6, batch=3)
    result = run_search(space, latency, budget, SyntheticAccuracy(space), tmp_path / "search", options)
    assert len(result.evaluations) == 12
    for evaluation in result.evaluations:
        model = network_graph(space.network(evaluation.architecture)).SerializeToString()
        assert board.true_ms(model) < 1.1 * budget.limit
    best = max(result.evaluations, key=lambda evaluation: evaluation.top1)
    screen = Screen(space, latency, budget, space.encode([best.architecture]))
    distance = how_far_evaluated(screen, result.evaluations, best.architecture)
    assert distance is not None and (distance.additive is None) == name.startswith(CONNECTED)


@pytest.mark.parametrize("name", ["mobilenet_v3/small", *FAMILIES])
def test_groups_hold_every_choice_once(name: str) -> None:
    space = get_space(name)
    groups = groups_of(space)
    columns = [group.column for group in groups] + [c for g in groups for unit in g.units for c in unit.columns]
    assert sorted([*columns, space.position("resolution")]) == list(range(len(space.choices)))
    additive = AdditiveTerms.of(space, lambda genomes: AdditiveLatency(space).predict(genomes)[0])
    assert (additive is None) == name.startswith(CONNECTED)
