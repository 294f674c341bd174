from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import UnknownNameError, UserError
from hwnas.latency import LatencyTable, fit_latency_model, validate
from hwnas.latency.blocks import interpolate
from hwnas.latency.regression import Posterior, fit_robustly
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
from tables import block_ms, made_table

SPACE = get_space("mobilenet_v3/small")
GENOMES = SPACE.sample(np.random.default_rng(9), 500)
TIMES = np.array([block_ms(block) for block in SPACE.distinct_blocks])


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.7, 1.2), overhead=st.floats(-0.01, 0.05))
def test_scale_and_overhead_of_networks_are_learned(scale: float, overhead: float) -> None:
    table = made_table(scale=scale, overhead_ms=overhead, noise=0.002)
    mean, std = fit_latency_model(table, SPACE).predict(GENOMES)
    true = overhead + scale * SPACE.block_sum(GENOMES, TIMES)
    assert np.abs(mean / true - 1).mean() < 0.005
    assert np.abs(mean / true - 1).max() < 0.03
    assert (std / mean).max() < 0.025


def test_the_stated_interval_covers_what_it_says() -> None:
    noise = 0.02
    inside = []
    for share in (0.9, 1.0):
        table = made_table(noise=noise, networks=40, validation=400, share_of_blocks=share)
        figures = validate(table, SPACE)
        assert figures is not None and figures.coverage_95 is not None
        inside.append(figures.coverage_95)
    assert all(0.9 <= share <= 0.995 for share in inside)


def test_without_calibration_the_plain_sum_remains_with_a_wide_spread() -> None:
    mean, std = fit_latency_model(made_table(networks=0), SPACE).predict(GENOMES)
    np.testing.assert_allclose(mean, SPACE.block_sum(GENOMES, TIMES))
    assert (std > 0.15 * mean).all()


def test_a_few_spoilt_networks_do_not_spoil_the_fit() -> None:
    table = made_table(networks=30, noise=0.002)
    entries = [
        entry.model_copy(update={"median_ms": entry.median_ms * 1.5}) if i in (3, 17) else entry
        for i, entry in enumerate(table.networks)
    ]
    mean, _ = fit_latency_model(table.model_copy(update={"networks": tuple(entries)}), SPACE).predict(GENOMES)
    true = 0.005 + 0.9 * SPACE.block_sum(GENOMES, TIMES)
    assert np.abs(mean / true - 1).mean() < 0.01


def test_more_calibration_networks_narrow_the_spread() -> None:
    spreads = []
    for n in (3, 10, 100):
        mean, std = fit_latency_model(made_table(networks=n, noise=0.01), SPACE).predict(GENOMES)
        spreads.append(float((std / mean).mean()))
    assert spreads == sorted(spreads, reverse=True)


def test_blocks_that_were_not_measured_widen_the_spread_of_the_networks_that_contain_them() -> None:
    whole, part = (fit_latency_model(made_table(share_of_blocks=share), SPACE) for share in (1.0, 0.5))
    with_gaps = part.interpolated(GENOMES)
    assert with_gaps.any() and not whole.interpolated(GENOMES).any()
    mean, std = part.predict(GENOMES)
    relative = std / mean
    assert relative[with_gaps].mean() > (whole.predict(GENOMES)[1] / whole.predict(GENOMES)[0])[with_gaps].mean()
    assert np.abs(mean / (0.005 + 0.9 * SPACE.block_sum(GENOMES, TIMES)) - 1).mean() < 0.02


def test_interpolation_is_close_and_knows_how_close() -> None:
    blocks = SPACE.distinct_blocks
    rng = np.random.default_rng(0)
    order = rng.permutation(len(blocks))
    given_blocks = [blocks[i] for i in order[:150]]
    wanted = [blocks[i] for i in order[150:]]
    noisy = np.array([block_ms(block) for block in given_blocks]) * np.exp(0.005 * rng.standard_normal(150))
    ms, std = interpolate(given_blocks, noisy, wanted)
    true = np.array([block_ms(block) for block in wanted])
    assert np.abs(ms / true - 1).mean() < 0.02
    assert (np.abs(ms - true) < 3 * std).mean() > 0.9
    assert (ms > 0).all() and (std > 0).all()


def test_a_table_of_a_few_blocks_is_refused_and_so_is_one_of_another_space() -> None:
    with pytest.raises(UserError, match="too few to interpolate"):
        fit_latency_model(made_table(share_of_blocks=0.01), SPACE)
    for other in (get_space("mobilenet_v3/small", 100), get_space("mobilenet_v3/imagenet-w1.0")):
        with pytest.raises(UserError, match="profile the target with that space"):
            fit_latency_model(made_table(), other)
    with pytest.raises(UnknownNameError, match="additive"):
        fit_latency_model(made_table(), SPACE, "additiv")


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(0, 12),
    columns=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_posterior_is_the_same_from_all_data_at_once_and_one_after_the_other(
    rows: int, columns: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features, targets = rng.standard_normal((rows, columns)), rng.standard_normal(rows)
    prior = Posterior(np.zeros(columns), np.eye(columns) * 4.0, 1.0, 0.5)
    at_once = prior.updated(features, targets, np.ones(rows))
    one_by_one = prior
    for i in range(rows):
        one_by_one = one_by_one.updated(features[i : i + 1], targets[i : i + 1], np.ones(1))
    np.testing.assert_allclose(one_by_one.mean, at_once.mean, atol=1e-8)
    np.testing.assert_allclose(one_by_one.covariance, at_once.covariance, atol=1e-8)
    np.testing.assert_allclose(one_by_one.scale, at_once.scale, rtol=1e-6)


def test_a_perfect_fit_is_no_division_by_zero() -> None:
    features = np.stack([np.ones(20), np.arange(20.0)], axis=1)
    posterior = fit_robustly(Posterior(np.zeros(2), np.eye(2) * 1e12, 1.0, 1e-12), features, features @ [1.0, 2.0])
    np.testing.assert_allclose(posterior.mean, [1.0, 2.0], rtol=1e-6)


def test_the_table_s_order_of_entries_does_not_matter() -> None:
    table = made_table(share_of_blocks=0.7)
    turned: LatencyTable = table.model_copy(
        update={"blocks": tuple(reversed(table.blocks)), "networks": tuple(reversed(table.networks))}
    )
    for first, second in zip(
        fit_latency_model(table, SPACE).predict(GENOMES), fit_latency_model(turned, SPACE).predict(GENOMES), strict=True
    ):
        np.testing.assert_allclose(first, second, rtol=1e-9)
