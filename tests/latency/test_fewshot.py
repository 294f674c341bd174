from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.errors import UserError
from hwnas.latency import FewShotModel, figures, fit_latency_model, validate
from hwnas.latency.base import Floats
from hwnas.latency.evidence import fit_groups
from hwnas.spaces import BlockSpec, Genomes, get_space

sys.path.insert(0, str(Path(__file__).parent))
from tables import block_ms, made_table

ROOT = Path(__file__).parents[2]
SPACE = get_space("mobilenet_v3/small")
JUDGED = SPACE.sample(np.random.default_rng(99), 500)


def device_ms(genomes: Genomes, *, launch_ms: float = 0.002, oddity: float = 0.0, seed: int = 0) -> Floats:
    """A device that starts blocks in ``launch_ms``, and whose kinds of block cost more or less than their work."""
    factors: dict[object, float] = {}
    rng = np.random.default_rng(seed)

    def ms(block: BlockSpec) -> float:
        kind = (block.in_channels, block.out_channels, block.kernel, block.stride)
        factor = factors.setdefault(kind, float(np.exp(oddity * rng.standard_normal())))
        return launch_ms + factor * block_ms(block)

    return 0.01 + SPACE.block_sum(genomes, np.array([ms(block) for block in SPACE.distinct_blocks]))


def noisy(times: Floats, noise: float, seed: int = 1) -> Floats:
    return np.asarray(times * np.exp(noise * np.random.default_rng(seed).standard_normal(len(times))))


def sampled(n: int, seed: int = 0) -> Genomes:
    return SPACE.sample(np.random.default_rng(seed), n)


@settings(max_examples=8, deadline=None)
@given(
    launch=st.floats(0.0, 0.05),
    oddity=st.floats(0.0, 0.2),
    unit=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_a_device_is_learned_from_a_hundred_networks_in_any_unit(
    launch: float, oddity: float, unit: float, seed: int
) -> None:
    genomes = sampled(100, seed)
    measured = unit * noisy(device_ms(genomes, launch_ms=launch, oddity=oddity, seed=seed), 0.002, seed)
    mean, std = FewShotModel.of_networks(SPACE, genomes, measured).predict(JUDGED)
    found = figures(unit * device_ms(JUDGED, launch_ms=launch, oddity=oddity, seed=seed), mean, std)
    assert found.mape < 1.5
    assert found.kendall_tau is not None and found.kendall_tau > 0.95


@pytest.mark.parametrize("n", [5, 10, 30, 300])
def test_the_stated_interval_covers_what_it_says(n: int) -> None:
    shares = []
    for seed in range(4):
        genomes = sampled(n, seed)
        model = FewShotModel.of_networks(SPACE, genomes, noisy(device_ms(genomes, oddity=0.1), 0.03, seed))
        mean, std = model.predict(JUDGED)
        shares.append(figures(noisy(device_ms(JUDGED, oddity=0.1), 0.03, 100 + seed), mean, std).coverage_95)
    assert np.mean(np.array(shares, np.float64)) >= 0.9
    if n >= 100:
        assert np.mean(np.array(shares, np.float64)) <= 0.985


def test_more_networks_bring_it_closer() -> None:
    errors = []
    for n in (10, 100, 1000):
        genomes = sampled(n)
        model = FewShotModel.of_networks(SPACE, genomes, noisy(device_ms(genomes, oddity=0.2), 0.02))
        errors.append(figures(device_ms(JUDGED, oddity=0.2), model.predict(JUDGED)[0]).mape)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5


def test_a_tenth_of_spoilt_networks_moves_it_little() -> None:
    genomes = sampled(100)
    measured = noisy(device_ms(genomes), 0.005)
    measured[::10] *= 1.2
    mean, std = FewShotModel.of_networks(SPACE, genomes, measured).predict(JUDGED)
    assert figures(device_ms(JUDGED), mean).mape < 1.0
    # The spoilt ones are part of what will be measured: the interval must not ignore them.
    clean, narrow = FewShotModel.of_networks(SPACE, genomes, noisy(device_ms(genomes), 0.005)).predict(JUDGED)
    assert (std / mean).mean() > 2 * (narrow / clean).mean()


def test_the_order_of_the_networks_hardly_matters() -> None:
    genomes, turned = sampled(60), np.random.default_rng(5).permutation(60)
    measured = noisy(device_ms(genomes), 0.01)
    first = FewShotModel.of_networks(SPACE, genomes, measured).predict(JUDGED)[0]
    second = FewShotModel.of_networks(SPACE, genomes[turned], measured[turned]).predict(JUDGED)[0]
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_a_sibling_helps_where_there_are_few_networks() -> None:
    others, genomes = sampled(500, 7), sampled(10, 8)
    sibling = FewShotModel.of_networks(SPACE, others, noisy(3 * device_ms(others, oddity=0.4), 0.005))
    measured = noisy(device_ms(genomes, oddity=0.4), 0.005)
    alone, together = (
        figures(
            device_ms(JUDGED, oddity=0.4), FewShotModel.of_networks(SPACE, genomes, measured, with_).predict(JUDGED)[0]
        )
        for with_ in ((), (sibling,))
    )
    assert together.mape < 0.5 * alone.mape


def test_a_sibling_that_has_nothing_in_common_does_little_harm() -> None:
    others, genomes = sampled(300, 7), sampled(50, 8)
    sibling = FewShotModel.of_networks(SPACE, others, np.random.default_rng(0).uniform(1.0, 2.0, 300))
    measured = noisy(device_ms(genomes), 0.005)
    mean, _ = FewShotModel.of_networks(SPACE, genomes, measured, [sibling]).predict(JUDGED)
    assert figures(device_ms(JUDGED), mean).mape < 1.5


def test_a_table_without_blocks_is_fitted_by_its_networks_and_validated() -> None:
    table = made_table(networks=60, validation=100).model_copy(update={"blocks": ()})
    model = fit_latency_model(table, SPACE)
    assert isinstance(model, FewShotModel)
    assert model.interpolated(JUDGED).all()
    found = validate(table, SPACE)
    assert found is not None and found.mape < 1.5
    assert set(found.baselines) == {"macs"} and found.baselines["macs"].mape > found.mape
    with pytest.raises(UserError, match="0 networks of mobilenet_v3/small are measured, too few"):
        fit_latency_model(made_table(networks=0).model_copy(update={"blocks": ()}), SPACE)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_latencies_are_refused(wrong: float) -> None:
    genomes = sampled(20)
    measured = device_ms(genomes)
    measured[7] = wrong
    with pytest.raises(UserError, match="network 7"):
        FewShotModel.of_networks(SPACE, genomes, measured)


def test_a_sibling_of_another_space_and_lengths_that_differ_are_refused() -> None:
    genomes = sampled(20)
    other = get_space("mobilenet_v3/small", 100)
    sibling = FewShotModel.of_networks(other, genomes, device_ms(genomes))
    with pytest.raises(UserError, match="sibling"):
        FewShotModel.of_networks(SPACE, genomes, device_ms(genomes), [sibling])
    with pytest.raises(ValueError, match="as many latencies as networks"):
        FewShotModel.of_networks(SPACE, genomes, device_ms(genomes)[:10])


def test_networks_of_one_latency_are_no_division_by_zero() -> None:
    genomes = sampled(12)
    for times in (np.full(12, 2.0), np.full(12, 1e-6)):
        mean, std = FewShotModel.of_networks(SPACE, genomes, times).predict(JUDGED)
        np.testing.assert_allclose(mean, times[0], rtol=0.05)
        assert (std > 0).all()


def test_groups_without_influence_are_found_out() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 6))
    groups = np.array([0, 0, 0, 1, 1, 1])
    targets = features[:, :3] @ [0.5, -0.4, 0.3] + 0.05 * rng.standard_normal(200)
    posterior = fit_groups(features, groups, np.array([0.1, 0.1]), targets)
    np.testing.assert_allclose(posterior.mean, [0.5, -0.4, 0.3, 0, 0, 0], atol=0.03)
    assert posterior.noise == pytest.approx(0.05, rel=0.3)
    assert 0.9 < posterior.stretch < 1.5


def test_the_benchmark_prints_one_object_and_judges_apart_from_what_it_fits(tmp_path: Path) -> None:
    """On a data set made up here, in the form of the published one."""
    space = get_space("mobilenet_v3/imagenet-w1.2")
    genomes = space.sample(np.random.default_rng(0), 400)
    entries = []
    for architecture in space.decode(genomes):
        values = dict(architecture.choices)
        labels = [f"stage{s}.block{b}" for s in range(1, 6) for b in range(1, 5)]
        entries.append(
            {
                "ks": [values.get(f"{label}.kernel", 7) for label in labels],
                "e": [values.get(f"{label}.expansion", 6) for label in labels],
                "d": [values[f"stage{s}.depth"] for s in range(1, 6)],
                "r": values["resolution"],
            }
        )
    (tmp_path / "architectures.json").write_text(json.dumps(entries))
    times = space.block_sum(genomes, np.array([0.1 + block.macs / 1e8 for block in space.distinct_blocks]))
    for device in ("2080ti", "titan_rtx"):
        for batch in (1, 32, 64):
            path = tmp_path / f"latency_ms_{device}_{batch}.json"
            path.write_text(json.dumps(noisy(times * batch, 0.01, batch).tolist()))
    command = [sys.executable, "scripts/bench_fewshot.py", "--data", str(tmp_path), "--json"]
    command += ["--networks", "10", "30", "--judged", "200", "--siblings", "100", "--seeds", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout.splitlines()[-1])
    assert len(found["results"]) == 6 * 2
    for entry in found["results"]:
        assert entry["n"] == 200 and entry["mape"] < 5
        assert entry["sibling_transfer"]["sibling_transfer_mape"] < 5
        assert {"ridge_mape", "macs_mape"} <= set(entry["baselines"])
    command[command.index("200")] = "390"
    refused = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "disjoint" in refused.stderr
