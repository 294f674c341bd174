"""The exact optimum of a sum over blocks under limits on other such sums.

Dynamic programming over the blocks on a grid of each limited quantity, rounded down, bounds from above what every
partial architecture can still reach (Martello and Toth 1990, "Knapsack Problems", Sec. 2.6 and 6.1); a best-first
search with these bounds (A*: Hart, Nilsson and Raphael 1968) then visits complete architectures best first, so that
the first of them is the optimum and that is proved.  With several limits each has a grid of its own, and the least of
their bounds counts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwnas.search.additive import AdditiveTerms, groups_of
from hwnas.search.budget import Floats
from hwnas.spaces import Genomes

CELLS = 4096
MAX_NODES = 200_000
ROUNDING = 1e-12
"""Relative: sums in another order differ in their last bits."""
_EDGE = 1e-6
"""Of a cell: what lies so near below the next one counts as reaching it, which only loosens the bounds."""


@dataclass(frozen=True)
class Limit:
    """``terms`` of an architecture, such as its mean latency in ms, are at most ``limit``."""

    terms: AdditiveTerms
    limit: float


@dataclass(frozen=True)
class Optimum:
    """The best architecture of an additive function within limits.

    Attributes:
        genome: [1, choices]; it keeps every limit.
        value: of the function.
        upper_bound: no architecture within the limits has a greater value.
    """

    genome: Genomes
    value: float
    upper_bound: float

    @property
    def proved(self) -> bool:
        """Whether it is proved that there is no better one."""
        return self.upper_bound <= self.value + ROUNDING * max(1.0, abs(self.value))


def optimum(
    values: AdditiveTerms, limits: Sequence[Limit], *, cells: int = CELLS, max_nodes: int = MAX_NODES
) -> Optimum | None:
    """The architecture of greatest value within the limits; None where there is none.

    Args:
        cells: of each grid; more make the bounds tighter and the search behind them shorter.
        max_nodes: partial architectures to look at; with more to do, the best of a quick descent is returned with the
            bound that was reached.

    Raises:
        ValueError: nothing was found and nothing proved: raise ``max_nodes``.
    """
    search = BestFirst(values, limits, cells)
    for value, genome in search.architectures(max_nodes):
        return Optimum(genome, value, value)
    if math.isinf(search.upper_bound):
        return None
    found = search.descend()
    if found is None:
        raise ValueError(f"no architecture within {len(limits)} limits was found in {max_nodes} steps")
    return Optimum(found[1], found[0], search.upper_bound)


@dataclass(frozen=True)
class _Step:
    """One decision; a walk from the last step to the first, by ``following``, makes an architecture.

    Attributes:
        columns: of the genes that it sets.
        genes: [options, columns].
        worth: [resolutions, options].
        costs: for each limit, [resolutions, options]; none negative.
        following: the step to take after each option, less than this one; -1 after the last decision.
    """

    columns: tuple[int, ...]
    genes: Genomes
    worth: Floats
    costs: tuple[Floats, ...]
    following: tuple[int, ...]


@dataclass(frozen=True, order=True)
class _Partial:
    """An architecture of which some groups are decided; the one with the greatest bound is the least."""

    negative_bound: float
    step: int
    number: int
    value: float = field(compare=False)
    slack: tuple[float, ...] = field(compare=False)
    resolution: int = field(compare=False)
    taken: tuple[int, ...] = field(compare=False)


class BestFirst:
    """Architectures within at least one limit, by value, the best first."""

    def __init__(self, values: AdditiveTerms, limits: Sequence[Limit], cells: int = CELLS) -> None:
        costs = [limit.terms.normalised() for limit in limits]
        self._space = values.space
        self._cells = cells
        self._steps = _steps(values, costs)
        self._slack = [limit.limit - cost.constants for limit, cost in zip(limits, costs, strict=True)]
        self._tolerances = [
            ROUNDING * (abs(limit.limit) + float(np.abs(cost.constants).max()))
            for limit, cost in zip(limits, costs, strict=True)
        ]
        self._tables = [self._table(i) for i in range(len(limits))]
        self._heap: list[_Partial] = []
        self._pushed = 0
        for resolution, constant in enumerate(values.constants.tolist()):
            slack = tuple(float(slack[resolution]) for slack in self._slack)
            self._push(len(self._steps) - 1, constant, slack, resolution, ())

    @property
    def upper_bound(self) -> float:
        """No architecture that was not visited yet has a greater value; -inf where there are no others."""
        return -self._heap[0].negative_bound if self._heap else -math.inf

    def architectures(self, max_nodes: int = MAX_NODES) -> Iterator[tuple[float, Genomes]]:
        """Values and genomes [1, choices], until all architectures or ``max_nodes`` partial ones were visited."""
        for _ in range(max_nodes):
            if not self._heap:
                return
            partial = heapq.heappop(self._heap)
            if partial.step < 0:
                yield partial.value, self._genome(partial)
            else:
                self._expand(partial)

    def descend(self) -> tuple[float, Genomes] | None:
        """Value and genome of a good architecture, found by always expanding the newest best; None if that fails."""
        waiting, found = sorted(self._heap), None
        for start in waiting:
            self._heap = [start]
            while self._heap and found is None:
                best = heapq.heappop(self._heap)
                self._heap = []
                if best.step < 0:
                    found = best.value, self._genome(best)
                else:
                    self._expand(best)
            if found is not None:
                break
        self._heap = waiting
        return found

    def _expand(self, partial: _Partial) -> None:
        step, at = self._steps[partial.step], partial.resolution
        for option, following in enumerate(step.following):
            slack = tuple(left - float(cost[at, option]) for left, cost in zip(partial.slack, step.costs, strict=True))
            self._push(following, partial.value + float(step.worth[at, option]), slack, at, (*partial.taken, option))

    def _push(self, step: int, value: float, slack: tuple[float, ...], resolution: int, taken: tuple[int, ...]) -> None:
        """Put a partial architecture on the heap, if it can be completed within the limits."""
        bound = math.inf
        for left, all_slack, tables, tolerance in zip(slack, self._slack, self._tables, self._tolerances, strict=True):
            whole = float(all_slack[resolution])
            if left < -tolerance:
                return
            cell = math.floor(max(left, 0.0) / whole * self._cells + _EDGE) if whole > tolerance else 0
            bound = min(bound, float(tables[step][resolution, cell]) if step >= 0 else 0.0)
        if bound > -math.inf:
            self._pushed += 1
            heapq.heappush(self._heap, _Partial(-value - bound, step, self._pushed, value, slack, resolution, taken))

    def _table(self, limit: int) -> list[Floats]:
        """For each step the greatest worth of it and of all after it, by whole cells left, [resolutions, cells + 1]."""
        cells = self._cells
        width = np.maximum(self._slack[limit], 0.0)[:, None] / cells
        tables: list[Floats] = []
        for step in self._steps:
            cost = step.costs[limit]
            # Rounded down: what fits into the limit also fits into the cells.  Without slack only what is free fits.
            nothing = np.where(cost > self._tolerances[limit], cells + 1.0, 0.0)
            rounded = np.divide(cost, width, out=nothing, where=width > self._tolerances[limit] / cells)
            shift = np.minimum(np.floor(rounded), cells + 1).astype(np.intp)
            table = np.full((len(cost), cells + 1), -math.inf)
            for at, option in np.ndindex(cost.shape):
                k, following = shift[at, option], step.following[option]
                after = tables[following][at, : cells + 1 - k] if following >= 0 else 0.0
                np.maximum(table[at, k:], step.worth[at, option] + after, out=table[at, k:])
            tables.append(table)
        return tables

    def _genome(self, partial: _Partial) -> Genomes:
        genes = np.zeros((1, len(self._space.choices)), np.int8)
        genes[0, self._space.position("resolution")] = partial.resolution
        index = len(self._steps) - 1
        for option in partial.taken:
            step = self._steps[index]
            genes[0, list(step.columns)] = step.genes[option]
            index = step.following[option]
        return self._space.canonical(genes)


def _steps(values: AdditiveTerms, costs: Sequence[AdditiveTerms]) -> list[_Step]:
    """For each group its units, first active first, and then its root, which says how many of them are active."""
    steps: list[_Step] = []
    for g, group in enumerate(groups_of(values.space)):
        before = len(steps) - 1
        for u, unit in enumerate(group.units):
            worth, unit_costs = values.units[g][u], tuple(cost.units[g][u] for cost in costs)
            after = (len(steps) - 1,) * len(unit.options)
            steps.append(_Step(unit.columns, unit.options, worth, unit_costs, after))
        genes = np.arange(group.values, dtype=np.int8)[:, None]
        after = tuple(before + group.active(i) for i in range(group.values))
        steps.append(_Step((group.column,), genes, values.roots[g], tuple(cost.roots[g] for cost in costs), after))
    return steps
