"""The space in a fixed order that spreads over all choices at once.

Read as a number in a mixed radix, a digit for each choice, the points of the grid are visited at a stride near the
golden section of their count and prime to it: every point once, and any stretch of the sequence spread evenly over
every digit, the last as the first (an additive recurrence, Kuipers and Niederreiter 1974, Sec. 2.3, on a finite ring).
Plain counting would vary the last choices alone for as long as anybody waits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hwnas.search.nni_setup import Strategy
from hwnas.search.nni_space import CandidateSpace
from hwnas.search.options import SearchOptions
from hwnas.search.screen import distinct
from hwnas.search.strategies.batches import BatchStrategy
from hwnas.spaces import Genomes

CHUNK = 4096
"""Points looked at together."""
PATIENCE = 32
"""Chunks in a row without a new architecture within the budget after which random ones are evaluated."""
GOLDEN = (math.sqrt(5) - 1) / 2


def grid(options: SearchOptions) -> Strategy:
    """The points of the grid within the budget; the seed says where it begins."""
    return Grid(options)


class Grid(BatchStrategy):
    """Learns nothing and draws nothing, unless the budget is so tight that the grid leads nowhere.

    Digits of inactive choices count for nothing, so that an architecture may be met again, and is then passed over.
    """

    def __init__(self, options: SearchOptions) -> None:
        super().__init__(options)
        self._position = 0

    def _first(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        return self._next(space, rng)

    def _next(self, space: CandidateSpace, rng: np.random.Generator) -> Genomes:
        del rng
        screen = space.screen
        sizes = [len(choice.values) for choice in screen.space.choices]
        count = math.prod(sizes)
        found: Genomes = screen.start[:0]
        for _ in range(PATIENCE):
            points = np.arange(self._position, min(self._position + CHUNK, count))
            genomes = screen.space.canonical(grid_points(points, sizes, self._options.seed))
            new = np.flatnonzero(screen.keeps(genomes))
            for start in range(0, len(new), self._options.batch):
                rows = new[start : start + self._options.batch]
                found = distinct(np.concatenate([found, space.unseen(genomes[rows])]))
                if len(found) >= self._options.batch:
                    self._position = int(points[rows[-1]]) + 1
                    return found
            self._position += len(points)
            if len(found):
                return found
        return found


def grid_points(positions: npt.NDArray[np.int64], sizes: list[int], seed: int) -> Genomes:
    """The digits of the points at some positions of the sequence, [n, digits].

    Args:
        positions: less than 2⁴⁰, [n].
        sizes: radix of each digit.
        seed: of the point at position 0.
    """
    count = math.prod(sizes)
    stride = int(count * GOLDEN) or 1
    while math.gcd(stride, count) > 1:
        stride += 1
    strides = _digits(stride, sizes)
    starts = [int(digit) for digit in np.random.default_rng(seed).integers(sizes)]
    points = np.empty((len(positions), len(sizes)), np.int8)
    carry = np.zeros(len(positions), np.int64)
    for j in reversed(range(len(sizes))):  # count may exceed 64 bits: added digit by digit, modulo count
        total = positions * strides[j] + starts[j] + carry
        points[:, j], carry = total % sizes[j], total // sizes[j]
    return points


def _digits(number: int, sizes: list[int]) -> list[int]:
    digits = []
    for size in reversed(sizes):
        number, digit = divmod(number, size)
        digits.append(digit)
    return digits[::-1]
