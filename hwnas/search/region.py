"""Regions of a space, in which some options of each choice are left, and the greatest of linear functions over them.

The features of an architecture are :meth:`Space.one_hot`'s.  A linear function of them is a sum over blocks, so that
its maximum over a region is found block by block.  A limit on another such sum enters by Lagrangian relaxation (Fisher
1981, "The Lagrangian Relaxation Method for Solving Integer Programming Problems"), which never gives too little.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from hwnas.search.additive import AdditiveTerms, groups_of
from hwnas.search.budget import Floats
from hwnas.search.optimum import Limit
from hwnas.spaces import Genomes, Space

Region = npt.NDArray[np.bool_]
"""Which options are left, [options]: resolutions, then values of each group's root, then options of each unit."""

PRICES = np.array([0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0])
"""Multipliers tried, in units of what a function varies by for each unit of what the limited sum varies by."""
TOLERANCE = 1e-9
"""Relative: what is so little over a limit counts as within it, which only loosens the bounds."""


class Regions:
    """The regions of a space under limits; see :data:`Region`."""

    def __init__(self, space: Space, limits: Sequence[Limit]) -> None:
        self._space, self._limits, self._groups = space, limits, groups_of(space)
        units = [unit for group in self._groups for unit in group.units]
        self._resolutions = len(space.resolutions)
        sizes = [group.values for group in self._groups] + [len(unit.options) for unit in units]
        starts = self._resolutions + np.cumsum([0, *sizes])
        n = len(self._groups)
        self._root_starts, self._unit_starts, self._end = starts[:n], starts[n:-1], int(starts[-1])
        self._units, self._unit_sizes = units, np.array(sizes[n:], np.intp)
        self._roots = np.arange(starts[0], starts[n])
        self._group_of_root = np.repeat(np.arange(n), sizes[:n])
        self._group_of_unit = np.repeat(np.arange(n), [len(group.units) for group in self._groups])
        # [widest, units]: units of fewer options repeat their first.
        within = np.arange(max(sizes[n:]))[:, None]
        self._options = self._unit_starts + np.where(within < self._unit_sizes, within, 0)
        value = self._roots - self._root_starts[self._group_of_root]
        active_from = np.array([unit.active_from for unit in units])
        self._active = (self._group_of_root[:, None] == self._group_of_unit) & (value[:, None] >= active_from)
        self._features = self._feature_matrix()
        self._costs = [self._cost(limit.terms) for limit in limits]
        self._bounds = [limit.limit + TOLERANCE * (1 + abs(limit.limit)) for limit in limits]

    @property
    def whole(self) -> Region:
        """The whole space."""
        return np.ones(self._end, np.bool_)

    def unlimited(self, region: Region, coefficients: Floats) -> Floats:
        """The greatest values over a region, whatever the limits, of linear functions [features, n], [n]."""
        worth = self._features.T @ coefficients
        resolutions = worth[: self._resolutions][region[: self._resolutions]]
        return np.asarray(self._unlimited(region, worth) + resolutions.max(axis=0))

    def greatest(self, region: Region, coefficients: Floats) -> Floats:
        """Upper bounds over a region within the limits of linear functions [features, n] of the features, [n]."""
        worth = self._features.T @ coefficients
        free = self._unlimited(region, worth)
        found = np.full(coefficients.shape[1], -math.inf)
        for r in np.flatnonzero(region[: self._resolutions]):
            best = free.copy()
            for costs, bound in zip(self._costs, self._bounds, strict=True):
                cost = costs[r]
                slack, spread = bound - cost[r], self._spread(region, cost[:, None])
                unit = self._spread(region, worth) / np.where(spread > 0, spread, 1.0)
                for price in PRICES[1:]:
                    paid = self._unlimited(region, worth - price * unit * cost[:, None]) + price * unit * slack
                    np.minimum(best, paid, out=best)
            np.maximum(found, best + worth[r], out=found)
        return found

    def narrowed(self, region: Region) -> Region | None:
        """A region without resolutions and unit options that surely break a limit; None where all do."""
        kept = region.copy()
        for costs, bound in zip(self._costs, self._bounds, strict=True):
            least = np.array([cost[r] - self._unlimited(region, -cost[:, None])[0] for r, cost in enumerate(costs)])
            kept[: self._resolutions] &= least <= bound
            # What each option costs above the cheapest of its unit, where that unit is active in all of the region.
            units = np.where(region[self._options], costs[:, self._options], math.inf)
            over = (least[:, None, None] + units - units.min(axis=1, keepdims=True) > bound) & self._certain(region)
            dropped = over[kept[: self._resolutions]].all(axis=0)
            kept[self._options[dropped]] = False
        return kept if kept[: self._resolutions].any() else None

    def count(self, region: Region) -> int:
        """How many architectures are in a region, within the limits or not."""
        left = [int(n) for n in self._left(region)]
        total = int(region[: self._resolutions].sum())
        for g in range(len(self._groups)):
            mine = np.flatnonzero(self._group_of_unit == g)
            total *= sum(
                math.prod(left[u] for u in mine if self._active[v, u])
                for v in np.flatnonzero(self._group_of_root == g)
                if region[self._roots[v]]
            )
        return total

    def split(self, region: Region, function: Floats) -> Iterator[Region]:
        """A region of more than one architecture in parts: by resolution, else by a root, else by a unit's option.

        Taken is that unit over whose options the linear function [features] varies most.
        """
        for options in self._decisions(region, function):
            left = options[region[options]]
            if len(left) > 1:
                for option in left:
                    part = region.copy()
                    part[options] = False
                    part[option] = True
                    yield part
                return

    def architectures(self, region: Region) -> Genomes:
        """All architectures of a region that are within the limits, [n, choices]."""
        roots = [self._roots[self._group_of_root == g] for g in range(len(self._groups))]
        made = []
        for r, *values in itertools.product(
            np.flatnonzero(region[: self._resolutions]), *(options[region[options]] for options in roots)
        ):
            active = self._active[np.array(values, np.intp) - self._resolutions].any(axis=0)
            left = [np.flatnonzero(region[s : s + n]) for s, n in zip(self._unit_starts, self._unit_sizes, strict=True)]
            sizes = [len(left[u]) for u in np.flatnonzero(active)]
            picked = np.unravel_index(np.arange(math.prod(sizes)), sizes) if sizes else ()
            genomes = np.zeros((math.prod(sizes), len(self._space.choices)), np.int8)
            genomes[:, self._space.position("resolution")] = r
            for group, value, start in zip(self._groups, values, self._root_starts, strict=True):
                genomes[:, group.column] = value - start
            for u, pick in zip(np.flatnonzero(active), picked, strict=True):
                genomes[:, list(self._units[u].columns)] = self._units[u].options[left[u][pick]]
            made.append(self._space.canonical(genomes))
        genomes = np.concatenate(made)
        for limit, bound in zip(self._limits, self._bounds, strict=True):
            genomes = genomes[limit.terms.predict(genomes) <= bound]
        return genomes

    def _decisions(self, region: Region, function: Floats) -> Iterator[npt.NDArray[np.intp]]:
        yield np.arange(self._resolutions)
        for g in range(len(self._groups)):
            yield self._roots[self._group_of_root == g]
        worth = (self._features.T @ function)[self._options]
        left = region[self._options]
        varies = np.where(left, worth, -math.inf).max(axis=0) - np.where(left, worth, math.inf).min(axis=0)
        undecided = self._certain(region) & (self._left(region) > 1)
        for u in np.argsort(np.where(undecided, -varies, math.inf), kind="stable"):
            if undecided[u]:
                yield np.arange(self._unit_starts[u], self._unit_starts[u] + self._unit_sizes[u])

    def _unlimited(self, region: Region, worth: Floats) -> Floats:
        """The maximum without limits and without the resolution's own term, of functions [options, n], [n]."""
        units = np.where(region[self._options][:, :, None], worth[self._options], -math.inf).max(axis=0)
        roots = worth[self._roots] + self._active.astype(np.float64) @ units
        roots[~region[self._roots]] = -math.inf
        found = np.maximum.reduceat(roots, self._root_starts - self._resolutions, axis=0)
        return np.asarray(found.sum(axis=0))

    def _spread(self, region: Region, worth: Floats) -> Floats:
        """By how much functions [options, n] vary over a region, at most, about, [n]."""
        return self._unlimited(region, worth) + self._unlimited(region, -worth)

    def _certain(self, region: Region) -> npt.NDArray[np.bool_]:
        """Which units are active in every architecture of a region, [units]."""
        mine = self._group_of_root[:, None] == self._group_of_unit
        return np.asarray(~(mine & ~self._active & region[self._roots][:, None]).any(axis=0))

    def _left(self, region: Region) -> npt.NDArray[np.intp]:
        """How many options of each unit are left, [units]."""
        return np.add.reduceat(region.astype(np.intp), self._unit_starts)

    def _feature_matrix(self) -> Floats:
        """Which features each option sets, [features, options]."""
        starts = np.cumsum([0, *(len(choice.values) for choice in self._space.choices)])
        found = np.zeros((int(starts[-1]), self._end))
        resolution = starts[self._space.position("resolution")]
        found[resolution + np.arange(self._resolutions), np.arange(self._resolutions)] = 1
        for group, start in zip(self._groups, self._root_starts, strict=True):
            found[starts[group.column] + np.arange(group.values), start + np.arange(group.values)] = 1
        for unit, start in zip(self._units, self._unit_starts, strict=True):
            for k, column in enumerate(unit.columns):
                found[starts[column] + unit.options[:, k], start + np.arange(len(unit.options))] = 1
        return found

    def _cost(self, terms: AdditiveTerms) -> Floats:
        """What each option costs at each resolution, [resolutions, options]; a resolution its constant."""
        constants = np.diag(terms.constants)
        units = [table for tables in terms.units for table in tables]
        return np.concatenate([constants, *terms.roots, *units], axis=1)
