"""A latency model and an accuracy made of formulas; as a program, a search with them:

python fakes.py DIRECTORY STRATEGY
"""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hwnas.search import Budget, SearchOptions, run_search
from hwnas.spaces import Architecture, Genomes, Space, get_space

Floats = npt.NDArray[np.float64]
SMALL = get_space("mobilenet_v3/small")
FOREVER_S = 600.0


class AdditiveLatency:
    """Seeded block times that grow with the multiply-accumulates, and a constant."""

    def __init__(self, space: Space = SMALL, seed: int = 0, relative_std: float = 0.01) -> None:
        rng = np.random.default_rng(seed)
        macs = np.array([block.macs for block in space.distinct_blocks])
        self.space = space
        self.block_ms = 0.003 + 2e-7 * macs * rng.uniform(0.6, 1.6, len(macs))
        self.relative_std = relative_std

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        mean = 0.02 + self.space.block_sum(genomes, self.block_ms)
        return mean, self.relative_std * mean


class SyntheticAccuracy:
    """Accuracy that saturates with size, with a seeded weight for every choice, and noise fixed by architecture.

    An evaluation takes ``seconds``; the one after ``stuck_after`` others does not end.
    """

    identity = "synthetic"

    def __init__(
        self,
        space: Space = SMALL,
        seed: int = 0,
        noise: float = 0.002,
        seconds: float = 0.0,
        stuck_after: int | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.space = space
        self.weights = [np.sort(rng.uniform(0, 1, len(c.values))) * rng.uniform(0, 1) for c in space.choices]
        self.noise = noise
        self.seconds = seconds
        self.stuck_after = stuck_after
        self.visited: list[str] = []

    def true(self, genomes: Genomes) -> Floats:
        quality = sum(
            np.where(genomes[:, j] >= 0, np.append(weights, 0.0)[genomes[:, j]], -0.15 * weights[-1])
            for j, weights in enumerate(self.weights)
        )
        return np.asarray(0.93 - 0.05 * np.exp(-0.25 * quality - 0.35 * (np.log(self.space.macs(genomes)) - 14)))

    def __call__(self, architecture: Architecture) -> float:
        time.sleep(self.seconds if len(self.visited) != self.stuck_after else FOREVER_S)
        self.visited.append(architecture.id)
        noise = np.random.default_rng(zlib.crc32(architecture.id.encode())).normal(0, self.noise)
        return float(np.clip(self.true(self.space.encode([architecture]))[0] + noise, 0, 1))


def budget_at(percentile: float, latency: AdditiveLatency) -> Budget:
    """A budget that this share (per cent) of random architectures keeps, about."""
    sample = latency.space.sample(np.random.default_rng(1), 20_000)
    mean, std = latency.predict(sample)
    return Budget("fake", "latency_ms", float(np.percentile(mean + 1.645 * std, percentile)))


def main(directory: Path, strategy: str, **evaluations: float) -> None:
    """A search; ``evaluations`` are the last two arguments of :class:`SyntheticAccuracy`."""
    latency, accuracy = AdditiveLatency(), SyntheticAccuracy(**evaluations)
    options = SearchOptions(strategy=strategy, evaluations=30, initial=10, batch=5, seed=3)
    run_search(SMALL, latency, budget_at(30, latency), accuracy, directory, options)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
