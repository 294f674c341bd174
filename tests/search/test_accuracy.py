from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from hwnas.search import GaussianProcess
from hwnas.search.accuracy import cross_validated_tau, prequential_tau
from hwnas.spaces import Genomes, get_space

sys.path.insert(0, str(Path(__file__).parent))
from fakes import SMALL, SyntheticAccuracy


def evaluated(n: int, seed: int = 0) -> tuple[Genomes, np.ndarray]:
    genomes = SMALL.sample(np.random.default_rng(seed), n)
    accuracy = SyntheticAccuracy()
    return genomes, np.array([accuracy(architecture) for architecture in SMALL.decode(genomes)])


class Recorder:
    """A predictor that only notes what it was taught and asked."""

    def __init__(self) -> None:
        self.known = 0
        self.asked: list[tuple[int, int]] = []

    def fit(self, genomes: Genomes, top1: np.ndarray) -> None:
        self.known = len(top1)

    def predict(self, genomes: Genomes) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append((self.known, len(genomes)))
        return genomes.sum(axis=1).astype(float), np.zeros(len(genomes))


def test_prequential_tau_predicts_each_batch_from_those_before_it() -> None:
    genomes, top1 = evaluated(30)
    recorder = Recorder()
    tau, n = prequential_tau(recorder, genomes, top1, range(16, 30, 8))
    assert recorder.asked == [(16, 8), (24, 6)]
    assert n == 14
    assert tau == pytest.approx(kendalltau(genomes[16:].sum(axis=1), top1[16:]).statistic)


def test_tau_of_too_few_is_none() -> None:
    genomes, top1 = evaluated(20)
    assert prequential_tau(Recorder(), genomes, top1, range(16, 20, 8)) == (None, 4)
    assert prequential_tau(Recorder(), genomes[:5], top1[:5], range(16, 5, 8)) == (None, 0)
    assert prequential_tau(Recorder(), genomes, top1, []) == (None, 0)
    assert cross_validated_tau(Recorder(), genomes[:9], top1[:9]) is None
    assert cross_validated_tau(Recorder(), genomes, np.full(20, 0.5)) is None


def test_published_imagenet_accuracies_are_ranked(shared_data: Path) -> None:
    """1,111 once-for-all subnets with measured ImageNet accuracy; 50 and 250 to learn from."""
    space = get_space("mobilenet_v3/imagenet-w1.0")
    lines = (shared_data / "latency" / "ofa_mbv3_w1.0_imagenet_top1.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    genes = np.zeros((len(rows), len(space.choices)), np.int8)
    for j, choice in enumerate(space.choices):
        for i, row in enumerate(rows):
            value = row["r"]
            if choice.label != "resolution":
                stage, _, rest = choice.label.partition(".")
                s = int(stage.removeprefix("stage")) - 1
                block, _, kind = rest.partition(".")
                position = 4 * s + int(block.removeprefix("block")) - 1 if kind else 0
                value = row["d"][s] if not kind else row["ks" if kind == "kernel" else "e"][position]
            genes[i, j] = choice.values.index(value)
    genomes, top1 = space.canonical(genes), np.array([row["top1"] for row in rows]) / 100
    for n, least in ((50, 0.87), (250, 0.93)):
        taus = []
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(len(top1))
            predictor = GaussianProcess(space)
            predictor.fit(genomes[order[:n]], top1[order[:n]])
            taus.append(kendalltau(predictor.predict(genomes[order[n:]])[0], top1[order[n:]]).statistic)
        assert np.mean(taus) >= least
