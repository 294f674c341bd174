"""The additive latency model: isolated block times, put into the context of whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import numpy.typing as npt

from hwnas.latency.base import Attribution, BlockCost, BlockTimes, Floats
from hwnas.latency.blocks import block_times
from hwnas.latency.regression import Posterior, fit_robustly
from hwnas.latency.table import LatencyTable, genomes_of, medians
from hwnas.spaces import Architecture, BlockSpec, Genomes, Space

CORRECTIONS: dict[str, Callable[[BlockSpec], float]] = {
    # Starting a run, and handing over its input and output, are in every isolated time.
    "starts": lambda _: 1.0,
    # A block alone converts its input and output between the model's layout and the runtime's; a network does not.
    "border": lambda block: float(
        block.in_channels * block.in_height * block.in_width + block.out_channels * block.out_height * block.out_width
    ),
    # A block alone keeps its weights in the nearest cache; in a network they displace each other.
    "weights": lambda block: float(block.params),
}
"""Quantities of blocks whose sums explain, beside the sum of times, how a network differs from its blocks alone."""

PRIOR_SHARE = 0.2
"""How much of a typical latency each correction may make up, as a prior standard deviation."""
PRIOR_NOISE = 0.01
"""Relative deviation of a network from the model that is expected before any is measured."""
_CHUNK = 16_384
"""Architectures predicted at once: their features fit into the processor's cache."""


class AdditiveModel:
    """latency = a + b·Σ block times + Σ corrections, fitted to the calibration networks in relative terms.

    Its uncertainty is that of the coefficients, the deviation of networks from it, and the uncertainty of the times
    of blocks that were not measured.  All of it are sums over blocks, so that arrays of architectures are looked up.
    """

    def __init__(self, space: Space, times: BlockTimes, posterior: Posterior, scale: Floats) -> None:
        """``scale`` [1 + corrections]: typical sizes of the constant and the corrections, as shares of a latency."""
        self.space = space
        self.times = times
        self._posterior = posterior
        self._scale = scale
        quantities = [times.ms, *_corrections(space), times.std_ms**2, (~times.measured).astype(np.float64)]
        # The last row is reached by the index -1 of an empty slot.
        self._per_block = np.concatenate([np.stack(quantities, axis=1), np.zeros((1, len(quantities)))])

    @classmethod
    def fit(cls, table: LatencyTable, space: Space) -> Self:
        """Fit to a table's calibration networks; without any, the plain sum of blocks give or take a third remains.

        Raises:
            UserError: the table has too few blocks.
        """
        times = block_times(table, space)
        # Typical sizes are those of random architectures, so that they exist before any network is measured.
        typical = cls(space, times, _prior(), np.ones(1 + len(CORRECTIONS)))
        _, shares = typical._terms(space.sample(np.random.default_rng(0), 1000))
        scale = shares[:, 1:].mean(axis=0)
        unfitted = cls(space, times, _prior(), scale)
        calibration = table.with_role("calibration")
        sums, terms = unfitted._terms(genomes_of(space, calibration))
        return cls(space, times, fit_robustly(_prior(), terms, medians(calibration) / sums[:, 0]), scale)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n]; see :class:`~hwnas.latency.base.LatencyModel`."""
        mean, std = np.empty(len(genomes)), np.empty(len(genomes))
        for start in range(0, len(genomes), _CHUNK):
            rows = slice(start, start + _CHUNK)
            sums, terms = self._terms(genomes[rows])
            share, deviation = self._posterior.predict(terms)
            mean[rows] = sums[:, 0] * share
            std[rows] = np.sqrt((sums[:, 0] * deviation) ** 2 + sums[:, -2])
        return mean, std

    def interpolated(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which architectures contain a block that was not measured, [n]."""
        return np.asarray(self._sums(genomes)[:, -1] > 0)

    def blocks_ms(self, architecture: Architecture) -> Attribution:
        """The predicted mean, block by block; the fit's constant is the overhead."""
        indices = self.space.block_indices(self.space.encode([architecture]))[0]
        per_ms, *rest = self._posterior.mean
        constant, *per_unit = np.array(rest) / self._scale
        in_context = self._per_block[:, : 1 + len(CORRECTIONS)] @ np.array([per_ms, *per_unit])
        costs = [
            BlockCost(slot.label, self.space.distinct_blocks[i], float(in_context[i]), not self.times.measured[i])
            for slot, i in zip(self.space.slots, indices, strict=True)
            if i >= 0
        ]
        return Attribution(float(constant), tuple(costs))

    def _sums(self, genomes: Genomes) -> Floats:
        """Sums over the blocks of each architecture, [n, quantities]."""
        indices = self.space.block_indices(genomes)
        sums = np.zeros((len(genomes), self._per_block.shape[1]))
        for column in indices.T:
            sums += self._per_block[column]
        return sums

    def _terms(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Sums [n, quantities], and what is regressed on: 1, constant and corrections per ms of the plain sum."""
        sums = self._sums(genomes)
        plain = sums[:, :1]
        constant = 1.0 / plain
        shares = np.concatenate([constant, sums[:, 1 : 1 + len(CORRECTIONS)] / plain], axis=1) / self._scale
        return sums, np.concatenate([np.ones_like(plain), shares], axis=1)


def _corrections(space: Space) -> list[Floats]:
    return [np.array([quantity(block) for block in space.distinct_blocks]) for quantity in CORRECTIONS.values()]


def _prior() -> Posterior:
    """The plain sum, each further term making up 0 ± :data:`PRIOR_SHARE` of it."""
    size = 2 + len(CORRECTIONS)
    mean = np.zeros(size)
    mean[0] = 1.0
    return Posterior(mean, np.eye(size) * (PRIOR_SHARE / PRIOR_NOISE) ** 2, shape=1.0, scale=PRIOR_NOISE**2)
