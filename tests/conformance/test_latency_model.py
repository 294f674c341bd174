"""What every latency model must do; a new one is tested here by being in the registry."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.latency import LATENCY_MODELS, LatencyModel, fit_latency_model
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from tables import made_table

SPACE = get_space("mobilenet_v3/small")


@pytest.fixture(scope="module", params=[(name, share) for name in LATENCY_MODELS for share in (1.0, 0.6)])
def model(request: pytest.FixtureRequest) -> LatencyModel:
    name, share_of_blocks = request.param
    return fit_latency_model(made_table(share_of_blocks=share_of_blocks), SPACE, name)


def test_mean_and_spread_are_positive_and_finite_all_over_the_space(model: LatencyModel) -> None:
    genomes = np.concatenate(
        [SPACE.sample(np.random.default_rng(0), 2000), SPACE.smallest_genome, SPACE.largest_genome]
    )
    mean, std = model.predict(genomes)
    for values in (mean, std):
        assert values.shape == (len(genomes),) and values.dtype == np.float64
        assert np.isfinite(values).all() and (values > 0).all()


def test_a_prediction_does_not_depend_on_its_company(model: LatencyModel) -> None:
    genomes = SPACE.sample(np.random.default_rng(1), 40_000)
    mean, std = model.predict(genomes)
    rows = np.random.default_rng(2).permutation(len(genomes))[:50]
    alone = [model.predict(genomes[row : row + 1]) for row in rows]
    np.testing.assert_allclose([m[0] for m, _ in alone], mean[rows], rtol=1e-12)
    np.testing.assert_allclose([s[0] for _, s in alone], std[rows], rtol=1e-12)


def test_no_architectures_are_no_error(model: LatencyModel) -> None:
    mean, std = model.predict(SPACE.sample(np.random.default_rng(0), 0))
    assert mean.shape == std.shape == (0,)
    assert model.interpolated(SPACE.sample(np.random.default_rng(0), 0)).shape == (0,)


def test_the_blocks_of_an_architecture_sum_up_to_its_mean(model: LatencyModel) -> None:
    genomes = SPACE.sample(np.random.default_rng(3), 30)
    mean, _ = model.predict(genomes)
    for architecture, expected in zip(SPACE.decode(genomes), mean, strict=True):
        attribution = model.blocks_ms(architecture)
        total = attribution.overhead_ms + sum(cost.ms for cost in attribution.blocks)
        assert total == pytest.approx(expected)
        assert tuple(cost.block for cost in attribution.blocks) == SPACE.blocks(architecture)


def test_what_is_interpolated_is_marked_alike_everywhere(model: LatencyModel) -> None:
    genomes = SPACE.sample(np.random.default_rng(4), 30)
    for architecture, marked in zip(SPACE.decode(genomes), model.interpolated(genomes), strict=True):
        assert any(cost.estimated for cost in model.blocks_ms(architecture).blocks) == marked
    assert (model.times.ms > 0).all()
    assert ((model.times.std_ms > 0) == ~model.times.measured).all()
