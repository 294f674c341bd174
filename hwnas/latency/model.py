"""The additive latency model: isolated block times, put into the context of whole networks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from hwnas.latency.base import Attribution, BlockCost, BlockTimes, Floats
from hwnas.latency.blocks import block_times
from hwnas.latency.context import Context, lookup_sums
from hwnas.latency.regression import Posterior, fit_robustly
from hwnas.latency.table import P50, LatencyTable, Statistic, genomes_of, values_ms
from hwnas.spaces import Architecture, Genomes, Space

PRIOR_NOISE = 0.01
"""Relative deviation of a network from the model that is expected before any is measured."""
PRIOR_SHAPE = 2.5
"""The expectation of the noise weighs as much as so many measured networks, twice."""
_EXPLAINED = 0.995
"""Share of the coefficients' uncertainty that is followed architecture by architecture; of the rest, the mean."""
_TYPICAL = 2000
_CHUNK = 16_384
"""Architectures predicted at once: their sums fit into the processor's cache."""
_WORKERS = 2


class AdditiveModel:
    """latency = Σ features x what each is worth, fitted to the calibration networks in relative terms.

    The prior is the plain sum of the isolated times; the features are those of
    :class:`~hwnas.latency.context.Context`.  The uncertainty is that of the coefficients, the deviation of networks
    from the model (which holds the spread between builds, since every network is of builds of its own), the
    uncertainty of blocks that were not measured, and the spread between boards.
    """

    def __init__(self, space: Space, times: BlockTimes, posterior: Posterior, board_spread: float = 0.0) -> None:
        """``posterior`` is over the coefficients of the context's features."""
        self.space = space
        self.times = times
        self.posterior = posterior
        self.context = Context.of(space, times.ms)
        self._lookup = _Lookup.of(self.context, posterior, times)
        self._board_spread = board_spread

    @classmethod
    def fit(cls, table: LatencyTable, space: Space, statistic: Statistic = P50) -> Self:
        """Fit to a table's calibration networks; without any, the plain sum of blocks give or take a third remains.

        Raises:
            UserError: the table has too few blocks, or its networks do not state the statistic.
        """
        times = block_times(table, space)
        context = Context.of(space, times.ms)
        calibration = table.with_role("calibration")
        features = context.features(genomes_of(space, calibration))
        plain = features[:, 1]
        targets = values_ms(calibration, statistic) / plain
        posterior = fit_robustly(context_prior(context), features / plain[:, None], targets)
        return cls(space, times, posterior, table.board_spread)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n]; see :class:`~hwnas.latency.base.LatencyModel`."""
        mean, std = np.empty(len(genomes)), np.empty(len(genomes))

        def fill(rows: slice) -> None:
            mean[rows], variance = self._lookup.predict(genomes[rows])
            std[rows] = np.sqrt(variance + (self._board_spread * mean[rows]) ** 2)

        pieces = [slice(start, start + _CHUNK) for start in range(0, len(genomes), _CHUNK)]
        if len(pieces) > 1:
            with ThreadPoolExecutor(_WORKERS) as workers:  # NumPy lets go of the interpreter while it computes
                list(workers.map(fill, pieces))
        else:
            list(map(fill, pieces))
        return mean, std

    def interpolated(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """Which architectures contain a block that was not measured, [n]."""
        return np.asarray(self.space.block_sum(genomes, (~self.times.measured).astype(np.float64)) > 0)

    def blocks_ms(self, architecture: Architecture) -> Attribution:
        """The predicted mean, block by block; the fit's constant is the overhead."""
        genome = self.space.encode([architecture])
        indices = self.space.block_indices(genome)[0]
        in_context = self.context.per_block @ np.delete(self.posterior.mean, [0, 2])
        in_context += self.context.per_block[:, 0] * self.posterior.mean[2] * self._octaves_of(genome)
        costs = [
            BlockCost(slot.label, self.space.distinct_blocks[i], float(in_context[i]), not self.times.measured[i])
            for slot, i in zip(self.space.slots, indices, strict=True)
            if i >= 0
        ]
        return Attribution(float(self.posterior.mean[0]), tuple(costs))

    def block_posterior(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms of what each distinct block costs within networks, each [blocks].

        It is for the middle resolution of the space.
        """
        keep = np.delete(np.arange(len(self.posterior.mean)), [0, 2])
        covariance = self.posterior.covariance[np.ix_(keep, keep)] * self.posterior.scale / self.posterior.shape
        per_block = self.context.per_block
        variance = np.einsum("bi,ij,bj->b", per_block, covariance, per_block) + self.times.std_ms**2
        return per_block @ self.posterior.mean[keep], np.sqrt(variance)

    def _octaves_of(self, genome: Genomes) -> float:
        return float(self.context.octaves[genome[0, self.space.position("resolution")]])


@dataclass(frozen=True)
class _Lookup:
    """Everything that a prediction needs, per block, so that arrays of architectures are looked up and summed."""

    context: Context
    per_block: Floats
    """[blocks, 3 + components]: isolated time, cost in context, variance of an unmeasured time, then components."""
    constant: float
    tilt: float
    component_of_constant: Floats
    component_of_tilt: Floats
    noise: float
    """Relative variance of what is the same for every architecture."""

    @classmethod
    def of(cls, context: Context, posterior: Posterior, times: BlockTimes) -> Self:
        """The few directions in which the coefficients' uncertainty matters, found on random architectures."""
        typical = context.features(context.space.sample(np.random.default_rng(0), _TYPICAL))
        relative = typical / typical[:, 1:2]
        root = np.linalg.cholesky(posterior.covariance)
        _, strength, directions = np.linalg.svd(relative @ root, full_matrices=False)
        explained = np.cumsum(strength**2) / np.sum(strength**2)
        components = root @ directions[: int(np.searchsorted(explained, _EXPLAINED)) + 1].T
        leverage = np.einsum("ij,ij->i", relative @ root, relative @ root)
        followed = np.einsum("ij,ij->i", relative @ components, relative @ components)
        variance = posterior.predictive_variance
        mean, parts = posterior.mean, components * np.sqrt(variance)
        keep = np.delete(np.arange(len(mean)), [0, 2])
        columns = [context.per_block[:, :1], (context.per_block @ mean[keep])[:, None], times.std_ms[:, None] ** 2]
        return cls(
            context,
            np.concatenate([*columns, context.per_block @ parts[keep]], axis=1),
            float(mean[0]),
            float(mean[2]),
            parts[0],
            parts[2],
            variance * (1.0 + float(np.mean(leverage - followed))),
        )

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean in ms and variance in ms², each [n]."""
        sums = lookup_sums(self.context.space, genomes, self.per_block)
        tilt = self.context.tilt(genomes, sums)
        mean = self.constant + sums[:, 1] + self.tilt * tilt[:, 0]
        components = sums[:, 3:] + self.component_of_constant + tilt * self.component_of_tilt
        variance = self.noise * sums[:, 0] ** 2 + np.einsum("ij,ij->i", components, components) + sums[:, 2]
        return mean, variance


def context_prior(context: Context) -> Posterior:
    """The plain sum, each feature worth nothing beside it, give or take the context's prior."""
    mean = np.zeros(len(context.prior_std))
    mean[1] = 1.0
    return Posterior(mean, np.diag((context.prior_std / PRIOR_NOISE) ** 2), PRIOR_SHAPE, PRIOR_SHAPE * PRIOR_NOISE**2)
