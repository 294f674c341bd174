"""Functions of an architecture that are sums over its blocks: read from a function, or fitted to values.

Such a function has for each resolution a constant, a term for each depth of a stage, and a term for each active block
that depends on that block's choices alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from hwnas.search.budget import Floats
from hwnas.spaces import Genomes, Space

PROBES = 512
TOLERANCE = 1e-6
"""Relative to a function's size: how far it may be off a sum and still be one."""
PENALTIES = np.logspace(-3, 3, 13)


@dataclass(frozen=True)
class Unit:
    """Choices that stand in a block together.

    Attributes:
        columns: of the choices.
        active_from: least index of the group's root from which they are active.
        options: every combination of their genes, [m, columns].
    """

    columns: tuple[int, ...]
    active_from: int
    options: Genomes


@dataclass(frozen=True)
class Group:
    """A choice that is always active, such as a stage's depth, and the units that depend on it, first active first."""

    column: int
    values: int
    units: tuple[Unit, ...]

    def active(self, index: int) -> int:
        """How many of the units are active where the root has this index."""
        return sum(unit.active_from <= index for unit in self.units)


def groups_of(space: Space) -> tuple[Group, ...]:
    """A space without its resolution, in groups.

    Blocks may connect groups, as those do whose width is chosen for all of a stage; then no sum over groups describes
    the space, which :meth:`AdditiveTerms.of` notices.
    """
    parent = {choice.label: choice.parent for choice in space.choices}
    together: dict[str, tuple[str, ...]] = {}
    for slot in space.slots:
        for label in filter(parent.get, slot.choices):
            together[label] = tuple(other for other in slot.choices if parent[other] == parent[label])
    roots = [choice for choice in space.choices if choice.parent is None and choice.label != "resolution"]
    return tuple(
        Group(space.position(root.label), len(root.values), _units(space, root.label, together)) for root in roots
    )


def _units(space: Space, root: str, together: dict[str, tuple[str, ...]]) -> tuple[Unit, ...]:
    children = {choice.label: choice for choice in space.choices if choice.parent == root}
    units = dict.fromkeys(together.get(label, (label,)) for label in children)
    made = []
    for labels in units:
        sizes = (range(len(children[label].values)) for label in labels)
        options = np.array(list(itertools.product(*sizes)), np.int8)
        active_from = children[labels[0]].active_from
        made.append(Unit(tuple(space.position(label) for label in labels), active_from, options))
    return tuple(sorted(made, key=lambda unit: unit.active_from))


@dataclass(frozen=True)
class AdditiveTerms:
    """A sum over blocks.

    Attributes:
        constants: of each resolution, [resolutions].
        roots: of each group, [resolutions, values].
        units: of each group's units, [resolutions, options].
    """

    space: Space
    constants: Floats
    roots: tuple[Floats, ...]
    units: tuple[tuple[Floats, ...], ...]

    @classmethod
    def of(cls, space: Space, function: Callable[[Genomes], Floats]) -> Self | None:
        """The terms of a function [n, choices] -> [n]; None where it is no such sum.

        Found from what each choice changes in the largest architecture, block by block; then compared with the
        function on random architectures.
        """
        resolution, n = space.position("resolution"), len(space.resolutions)
        groups = groups_of(space)
        base = np.repeat(space.largest_genome, n, axis=0)
        base[:, resolution] = np.arange(n)
        constants = function(base)

        def changed(columns: Sequence[int], options: Genomes) -> Floats:
            rows = np.repeat(base[:, None], len(options), axis=1)
            rows[:, :, list(columns)] = options
            return function(space.canonical(rows.reshape(n * len(options), -1))).reshape(n, -1) - constants[:, None]

        terms = cls(
            space,
            constants,
            tuple(changed((g.column,), np.arange(g.values, dtype=np.int8)[:, None]) for g in groups),
            tuple(tuple(changed(unit.columns, unit.options) for unit in g.units) for g in groups),
        )
        probes = space.sample(np.random.default_rng(0), PROBES)
        found = function(probes)
        close = np.abs(terms.predict(probes) - found) <= TOLERANCE * max(float(np.abs(found).max()), 1e-12)
        return terms if close.all() else None

    @classmethod
    def fit(cls, space: Space, genomes: Genomes, values: Floats, weights: Floats | None = None) -> Self:
        """The sum nearest to values [n] of genomes [n, choices]: a ridge regression, its penalty by leaving out.

        Resolution, depths, kernels and expansions each have terms of their own.

        Args:
            weights: of the rows, [n]; equal where None.
        """
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(PENALTIES).fit(space.one_hot(genomes).astype(np.float64), values, weights)
        sizes = [len(choice.values) for choice in space.choices]
        worth = np.split(np.asarray(model.coef_, np.float64), np.cumsum(sizes)[:-1])
        return cls.of_choices(space, float(model.intercept_), worth)

    @classmethod
    def of_choices(cls, space: Space, constant: float, worth: Sequence[Floats]) -> Self:
        """A constant and what each value of each active choice adds to it, [values] for each choice."""
        resolution, groups = space.position("resolution"), groups_of(space)

        def alike(values: Floats) -> Floats:
            return np.repeat(values[None], len(space.resolutions), axis=0)

        def options(unit: Unit) -> Floats:
            return np.asarray(np.sum([worth[c][unit.options[:, k]] for k, c in enumerate(unit.columns)], axis=0))

        return cls(
            space,
            constant + worth[resolution],
            tuple(alike(worth[group.column]) for group in groups),
            tuple(tuple(alike(options(unit)) for unit in group.units) for group in groups),
        )

    def predict(self, genomes: Genomes) -> Floats:
        """The sum for each row of [n, choices], [n]."""
        at = genomes[:, self.space.position("resolution")].astype(np.intp)
        total = self.constants[at]
        for group, root, units in zip(self._groups, self.roots, self.units, strict=True):
            total = total + root[at, genomes[:, group.column]]
            for unit, table in zip(group.units, units, strict=True):
                genes = genomes[:, list(unit.columns)].astype(np.intp)
                sizes = unit.options.max(axis=0).astype(np.intp) + 1
                option = np.ravel_multi_index(tuple(genes.clip(min=0).T), tuple(sizes))
                total += np.where(genes[:, 0] >= 0, table[at, option], 0.0)
        return np.asarray(total)

    def normalised(self) -> Self:
        """The same function with terms of 0 and more: what every architecture has is in the constants."""
        constants, roots, units = self.constants.copy(), [], []
        for group, root, tables in zip(self._groups, self.roots, self.units, strict=True):
            least = [table.min(axis=1, keepdims=True) for table in tables]
            units.append(tuple(table - low for table, low in zip(tables, least, strict=True)))
            shifted = np.stack(
                [root[:, i] + sum(low[:, 0] for low in least[: group.active(i)]) for i in range(group.values)], axis=1
            )
            roots.append(shifted - shifted.min(axis=1, keepdims=True))
            constants += shifted.min(axis=1)
        return type(self)(self.space, constants, tuple(roots), tuple(units))

    @cached_property
    def _groups(self) -> tuple[Group, ...]:
        return groups_of(self.space)


def explained(found: Floats, predicted: Floats) -> float | None:
    """R²: the share of the variance of ``found`` [n] that ``predicted`` [n] explains; None where nothing varies."""
    variance = float(np.var(found))
    return None if variance == 0 else 1.0 - float(np.mean((found - predicted) ** 2)) / variance
