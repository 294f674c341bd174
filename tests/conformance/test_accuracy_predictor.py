"""What every :class:`hwnas.search.AccuracyPredictor` must do; the search relies on nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kendalltau

from hwnas.search import AccuracyPredictor
from hwnas.search.accuracy import PREDICTORS
from hwnas.spaces import Genomes, Space, get_space

SPACE = get_space("mobilenet_v3/small")
MakePredictor = Callable[[Space], AccuracyPredictor]

every_predictor = pytest.mark.parametrize("make", PREDICTORS.values(), ids=PREDICTORS.keys())


def true_accuracy(genomes: Genomes) -> np.ndarray:
    """Saturating in size, and dearer in the first stage than in the last."""
    depths = sum(genomes[:, SPACE.position(f"stage{s}.depth")] / s for s in (1, 2, 3))
    return 0.93 - 0.05 * np.exp(-0.3 * depths - 0.4 * (np.log(SPACE.macs(genomes)) - 14))


def evaluated(n: int) -> tuple[Genomes, np.ndarray]:
    """Random architectures and their accuracies with noise."""
    rng = np.random.default_rng(0)
    genomes = SPACE.sample(rng, n)
    return genomes, true_accuracy(genomes) + rng.normal(0, 0.002, n)


@every_predictor
def test_ranks_unseen_architectures_and_knows_what_it_does_not_know(make: MakePredictor) -> None:
    genomes, top1 = evaluated(300)
    predictor = make(SPACE)
    predictor.fit(genomes[:60], top1[:60])
    mean, std = predictor.predict(genomes[60:])
    assert mean.shape == std.shape == (240,)
    assert kendalltau(mean, true_accuracy(genomes[60:])).statistic > 0.7
    assert (std >= 0).all()
    assert predictor.predict(genomes[:60])[1].mean() < std.mean()


@every_predictor
def test_is_the_same_each_time_and_forgets_what_it_learned_before(make: MakePredictor) -> None:
    genomes, top1 = evaluated(80)
    fresh, used = make(SPACE), make(SPACE)
    used.fit(genomes[50:], top1[50:])
    for predictor in (fresh, used):
        predictor.fit(genomes[:50], top1[:50])
    np.testing.assert_array_equal(fresh.predict(genomes), used.predict(genomes))


@every_predictor
def test_two_equal_accuracies_are_enough(make: MakePredictor) -> None:
    genomes, _ = evaluated(20)
    predictor = make(SPACE)
    predictor.fit(genomes[:2], np.array([0.5, 0.5]))
    mean, std = predictor.predict(genomes)
    np.testing.assert_allclose(mean, 0.5)
    assert np.isfinite(std).all()
