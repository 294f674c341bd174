"""Local search on arrays: the best exchange of one or two parts of an architecture, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt

from hwnas.search.additive import groups_of
from hwnas.search.budget import Floats
from hwnas.search.screen import Screen, distinct
from hwnas.spaces import Genomes, Space

MOST_SWEEPS = 20
PAIRS = 4096
"""Exchanges of two parts that are looked at in a sweep, those of greatest sum of single effects."""
SCORED = 768
"""Exchanges of those within the budget that are scored."""


@dataclass(frozen=True)
class Moves:
    """Everything that can be exchanged in an architecture: the resolution, a depth, or all choices of a block.

    Attributes:
        changed: which genes each move sets, [moves, choices].
        genes: to what, likewise.
        pairs: two moves that set different genes, [pairs, 2].
    """

    changed: npt.NDArray[np.bool_]
    genes: Genomes
    pairs: npt.NDArray[np.int64]

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, space: Space) -> Self:
        """The moves of a space, found once."""
        parts: list[tuple[tuple[int, ...], Genomes]] = [
            ((space.position("resolution"),), _each(len(space.resolutions)))
        ]
        for group in groups_of(space):
            parts.append(((group.column,), _each(group.values)))
            parts += [(unit.columns, unit.options) for unit in group.units]
        changed = np.zeros((sum(len(options) for _, options in parts), len(space.choices)), np.bool_)
        genes = np.zeros(changed.shape, np.int8)
        row = 0
        for columns, options in parts:
            changed[row : row + len(options), list(columns)] = True
            genes[row : row + len(options), list(columns)] = options
            row += len(options)
        part = np.repeat(np.arange(len(parts)), [len(options) for _, options in parts])
        first, second = np.triu_indices(row, 1)
        pairs = np.stack([first, second], axis=1)[part[first] != part[second]]
        return cls(changed, genes, pairs)

    def apply(self, genes: Genomes, moves: npt.NDArray[np.int64]) -> Genomes:
        """Genes [n, choices] or [1, choices] after one move each, [n]; not canonical yet."""
        return np.where(self.changed[moves], self.genes[moves], genes)


def refine(screen: Screen, score: Callable[[Genomes], Floats], genome: Genomes) -> Genomes:
    """An architecture [1, choices] after the best exchanges of one or two parts that keep the budget.

    Steepest ascent.  All exchanges of one part are scored, within the budget or not, since what is too dear alone may
    be paid for by another; of two parts those are scored whose effects, each alone, promise most.
    """
    space, moves = screen.space, Moves.of(screen.space)
    best = float(score(genome)[0])
    for _ in range(MOST_SWEEPS):
        free = genome.clip(min=0)  # a block that becomes active is the smallest, unless the other move sets it
        single = space.canonical(moves.apply(free, np.arange(len(moves.genes))))
        effect = score(single) - best
        promise = effect[moves.pairs].sum(axis=1)
        most = np.argsort(-promise, kind="stable")[:PAIRS]
        first, second = moves.pairs[most].T
        double = space.canonical(moves.apply(moves.apply(free, first), second))
        promising = single[np.argsort(-effect, kind="stable")]
        trials = distinct(np.concatenate([promising, double]))
        trials = trials[screen.keeps(trials)][:SCORED]
        scores = score(trials)
        if not len(scores) or not scores.max() > best:
            break
        index = int(np.argmax(scores))
        genome, best = trials[[index]], float(scores[index])
    return genome


def _each(n: int) -> Genomes:
    return np.arange(n, dtype=np.int8)[:, None]
