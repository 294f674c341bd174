"""The few-shot latency model: a device known by the latencies of a few whole networks alone.

model = FewShotModel.of_networks(space, genomes, measured_ms)
mean_ms, std_ms = model.predict(space.sample(rng, 100_000))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError
from hwnas.latency.base import Attribution, BlockCost, BlockTimes, Floats
from hwnas.latency.evidence import fit_groups
from hwnas.latency.physics import BlockFeatures, block_features, sum_over_blocks
from hwnas.latency.table import P50, LatencyTable, Statistic, genomes_of, values_ms
from hwnas.spaces import Architecture, Genomes, Space

FEWEST = 5
"""Networks from which a device can be known at all."""
SIBLING_WIDTH = 0.3
"""Share of a latency by which it may differ from a sibling's, scaled, beforehand."""
_HUBER = 1.345
"""Residuals beyond so many standard deviations lose weight (95 % efficient on normal noise: Huber 1981, Ch. 4)."""
_ROUNDS = 8
"""Of fitting the roofline and weighing the networks in turn."""
_FLOOR = 0.05
"""No architecture is predicted below this share of the fastest measured one."""
_TYPICAL = 1000
"""Random architectures on which sizes of features, and parts of the uncertainty, are compared."""
_KEPT = 0.99
"""Share of the coefficients' uncertainty that is followed architecture by architecture; of the rest, the average."""
_CHUNK = 4096
"""Architectures predicted at once: their sums fit into the processor's cache."""


class FewShotModel:
    """latency = Σ costs of blocks + overhead, all inferred from whole networks.

    The prior is a roofline: non-negative costs of each kind of work, fitted to the networks; where siblings are given,
    their costs, scaled.  What blocks cost beside it is a Gaussian process, linear in :class:`BlockFeatures`, whose
    groups are as wide as the evidence says.  Both are sums over blocks, so that arrays of architectures are looked up.
    """

    def __init__(
        self,
        space: Space,
        per_block: Floats,
        per_network: Floats,
        noise: float,
        stretch: float,
        floor_ms: float,
        board_spread: float = 0.0,
    ) -> None:
        """``per_block`` [blocks, 1 + parts] and ``per_network`` [1 + parts]: cost in ms, and its uncertainty's parts.

        The parts' squares sum up to the variance in ms² of a sum of blocks.  ``noise`` is relative; ``stretch``
        multiplies the whole deviation but that between boards, ``board_spread``, which is relative.
        """
        self.space = space
        self.overhead_ms = float(per_network[0])
        self.block_ms: Floats = per_block[:, 0]
        """What each of ``space.distinct_blocks`` costs within a network; a small cost may be inferred below 0."""
        self._per_block = per_block
        self._per_network = per_network
        self._noise = noise
        self._stretch = stretch
        self._floor_ms = floor_ms
        self._board_spread = board_spread
        ms = np.maximum(self.block_ms, floor_ms / len(space.slots))
        variance = (per_block[:, 1:] ** 2).sum(axis=1) + (noise * ms) ** 2
        self.times = BlockTimes(ms, stretch * np.sqrt(variance), np.zeros(len(ms), np.bool_))

    @classmethod
    def fit(cls, table: LatencyTable, space: Space, statistic: Statistic = P50) -> Self:
        """Fit to a table's calibration networks; blocks that it may have are left aside.

        Raises:
            UserError: fewer than :data:`FEWEST` calibration networks.
        """
        calibration = table.with_role("calibration")
        measured_ms = values_ms(calibration, statistic)
        return cls.of_networks(space, genomes_of(space, calibration), measured_ms, board_spread=table.board_spread)

    @classmethod
    def of_networks(
        cls,
        space: Space,
        genomes: Genomes,
        measured_ms: Floats,
        siblings: Sequence[FewShotModel] = (),
        board_spread: float = 0.0,
    ) -> Self:
        """Fit to measured networks [n, choices] and their latencies in ms [n].

        Args:
            siblings: models of other devices, or of other batch sizes, for the same space.  No network on which this
                model is judged may have been measured for them either.
            board_spread: relative standard deviation between boards of the kind.

        Raises:
            UserError: fewer than :data:`FEWEST` networks, a latency that is not positive and finite, or a sibling of
                another space.
        """
        _check(space, genomes, measured_ms, siblings)
        features = _with_siblings(block_features(space), siblings)
        sums = features.sums(space, genomes)
        prior = _roofline(features, sums, measured_ms, len(siblings))
        floor_ms = _FLOOR * float(measured_ms.min())
        plain = np.maximum(sums @ prior, floor_ms)
        typical = features.sums(space, space.sample(np.random.default_rng(0), _TYPICAL))
        shares = typical / np.maximum(typical @ prior, floor_ms)[:, None]
        size = _sizes(shares, features.groups)
        posterior = fit_groups(
            sums / plain[:, None] / size, features.groups, features.widths, measured_ms / plain - 1.0
        )
        parts, rest = _parts(posterior.covariance, shares / size)
        to_ms = np.concatenate([(prior + posterior.mean / size)[:, None], parts / size[:, None]], axis=1)
        noise = float(np.sqrt(posterior.noise**2 + rest))
        costs = features.per_block @ to_ms, features.per_network @ to_ms
        return cls(space, *costs, noise, posterior.stretch, floor_ms, board_spread)

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean and standard deviation in ms, each [n]; see :class:`~hwnas.latency.base.LatencyModel`."""
        mean, std = np.empty(len(genomes)), np.empty(len(genomes))
        for start in range(0, len(genomes), _CHUNK):
            rows = slice(start, start + _CHUNK)
            sums = self._per_network + sum_over_blocks(self.space, genomes[rows], self._per_block)
            mean[rows] = np.maximum(sums[:, 0], self._floor_ms)
            variance = (sums[:, 1:] ** 2).sum(axis=1) + (self._noise * mean[rows]) ** 2
            std[rows] = np.sqrt(self._stretch**2 * variance + (self._board_spread * mean[rows]) ** 2)
        return mean, std

    def interpolated(self, genomes: Genomes) -> npt.NDArray[np.bool_]:
        """All architectures, [n]: no block was measured alone."""
        return np.ones(len(genomes), np.bool_)

    def blocks_ms(self, architecture: Architecture) -> Attribution:
        """The predicted mean, block by block, as far as whole networks tell blocks apart."""
        genomes = self.space.encode([architecture])
        costs = [
            BlockCost(slot.label, self.space.distinct_blocks[i], float(self.block_ms[i]), True)
            for slot, i in zip(self.space.slots, self.space.block_indices(genomes)[0], strict=True)
            if i >= 0
        ]
        total = float(self.predict(genomes)[0][0])
        return Attribution(total - sum(cost.ms for cost in costs), tuple(costs))


def _check(space: Space, genomes: Genomes, measured_ms: Floats, siblings: Sequence[FewShotModel]) -> None:
    if genomes.ndim != 2 or measured_ms.shape != (len(genomes),):
        raise ValueError(f"expected as many latencies as networks, found {measured_ms.shape} and {genomes.shape}")
    if len(genomes) < FEWEST:
        raise UserError(
            f"{len(genomes)} networks of {space.name} are measured, too few to know a device by; measure at least "
            f"{FEWEST}, and better a hundred."
        )
    wrong = np.flatnonzero(~(np.isfinite(measured_ms) & (measured_ms > 0)))
    if wrong.size:
        raise UserError(
            f"The latency of network {wrong[0]} is {measured_ms[wrong[0]]} ms; it must be positive and finite: leave "
            "that network out or measure it again."
        )
    for sibling in siblings:
        if (sibling.space.name, sibling.space.num_classes) != (space.name, space.num_classes):
            raise UserError(f"A sibling is a model of {sibling.space.name}, not of {space.name} with as many classes.")


def _with_siblings(features: BlockFeatures, siblings: Sequence[FewShotModel]) -> BlockFeatures:
    """Costs by the siblings as further features, the last ones, each a group of its own."""
    if not siblings:
        return features
    costs = np.stack([sibling.block_ms for sibling in siblings], axis=1)
    overheads = [sibling.overhead_ms for sibling in siblings]
    return replace(
        features,
        per_block=np.concatenate([features.per_block, costs], axis=1),
        per_network=np.append(features.per_network, overheads),
        groups=np.append(features.groups, len(features.widths) + np.arange(len(siblings))),
        widths=np.append(features.widths, np.full(len(siblings), SIBLING_WIDTH)),
    )


def _roofline(features: BlockFeatures, sums: Floats, measured_ms: Floats, siblings: int) -> Floats:
    """Costs [features], none below 0: of kinds of work, or where there are siblings, of these and the constant.

    By the least relative error, networks far from the rest weighing less (Huber's weights).
    """
    from scipy.optimize import nnls

    used = np.flatnonzero(features.groups == 0)
    if siblings:
        used = np.append(used[-1], np.arange(sums.shape[1] - siblings, sums.shape[1]))
    scale = np.maximum(np.abs(sums[:, used]).mean(axis=0), np.finfo(np.float64).tiny)
    shares = sums[:, used] / scale / measured_ms[:, None]
    roots = np.ones(len(measured_ms))
    for _ in range(_ROUNDS):
        fitted, _ = nnls(shares * roots[:, None], roots)
        residuals = np.abs(1.0 - shares @ fitted)
        # The median of |normal| is 0.6745 standard deviations.
        spread = max(float(np.median(residuals)) / 0.6745, 1e-6)
        roots = np.sqrt(np.minimum(1.0, _HUBER * spread / np.maximum(residuals, 1e-12)))
    costs = np.zeros(sums.shape[1])
    costs[used] = fitted / scale
    return costs


def _sizes(shares: Floats, groups: npt.NDArray[np.intp]) -> Floats:
    """By what each feature is divided, [features], so that widths are shares of a latency.

    Kinds of work, and siblings, each by their mean; all others together by how much they vary over the space.
    """
    sizes = np.abs(shares).mean(axis=0)
    for group in range(1, int(groups.max()) + 1):
        members = groups == group
        if members.sum() > 1:
            sizes[members] = np.sqrt(shares[:, members].var(axis=0).sum())
    return np.where(sizes > 0, sizes, 1.0)


def _parts(covariance: Floats, typical: Floats) -> tuple[Floats, float]:
    """The directions [features, parts] in which typical architectures [n, features] are most uncertain.

    Also gives the average variance along all directions left out.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    seen = typical @ root
    variances, directions = np.linalg.eigh(seen.T @ seen / len(typical))
    variances, directions = np.maximum(variances[::-1], 0), directions[:, ::-1]
    kept = int(np.searchsorted(np.cumsum(variances), _KEPT * variances.sum())) + 1
    return root @ directions[:, :kept], float(variances[kept:].sum())
