"""Networks that a search proposes: larger than random ones of the latency that the model believes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import UserError
from hwnas.latency import LatencyModel, fit_latency_model
from hwnas.pipeline.proposals import propose
from hwnas.pipeline.validation import validate_table
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from fake_device import FakeDevice
from tables import made_table

SPACE = get_space("mobilenet_v3/small")


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    return fit_latency_model(made_table(), SPACE)


def test_proposals_are_spread_over_the_budgets_and_larger_than_random_networks(model: LatencyModel) -> None:
    proposed = propose("host-cpu", model, 12)
    genomes = SPACE.encode(proposed)
    assert len({architecture.id for architecture in proposed}) == 12
    mean, _ = model.predict(genomes)
    ends = model.predict(np.concatenate([SPACE.smallest_genome, SPACE.largest_genome]))[0]
    limits = ends[0] + (np.arange(12) + 0.5) / 12 * (ends[1] - ends[0])
    assert (mean <= limits * (1 + 1e-9)).all() and (mean[::2] > 0.9 * limits[::2]).all()
    drawn = SPACE.sample(np.random.default_rng(3), 20_000)
    drawn_ms, _ = model.predict(drawn)
    for genome, ms in zip(genomes[::2], mean[::2], strict=True):
        near = drawn[np.abs(drawn_ms / ms - 1) < 0.02]
        if len(near) > 20:
            assert SPACE.macs(genome[None])[0] > np.quantile(SPACE.macs(near), 0.95)


def test_the_same_seed_proposes_the_same_and_what_is_known_is_left_out(model: LatencyModel) -> None:
    proposed = propose("host-cpu", model, 4, seed=3)
    assert propose("host-cpu", model, 4, seed=3) == proposed
    known = {architecture.id for architecture in proposed}
    assert not known & {architecture.id for architecture in propose("host-cpu", model, 4, seed=3, without=known)}


@pytest.mark.parametrize("n", [-1, 1])
def test_a_number_that_gives_no_figures_is_refused(tmp_path: Path, n: int) -> None:
    with pytest.raises(UserError, match="Two networks or more are proposed"):
        validate_table(FakeDevice(), tmp_path / "none.json", proposed=n)
