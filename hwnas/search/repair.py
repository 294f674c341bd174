"""Architectures over the budget, made smaller until they keep it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwnas.search.budget import Floats
from hwnas.search.screen import Screen
from hwnas.spaces import Genomes


def repair(screen: Screen, genomes: Genomes, score: Callable[[Genomes], Floats]) -> Genomes:
    """Project architectures onto the budget: one choice at a time to its next smaller value, greedily.

    Each step takes of all choices the one that gives up the least score for the excess that it takes off.

    Args:
        genomes: canonical, [n, choices].
        score: of each row of [m, choices], [m]; higher is better.

    Returns:
        The rows that keep the budget, now or from the beginning, in order; those that no step brings nearer are left
        out.
    """
    genomes = genomes.copy()
    hopeless = np.zeros(len(genomes), np.bool_)
    while len(over := np.flatnonzero(~screen.keeps(genomes) & ~hopeless)):
        parents, columns = np.nonzero(genomes[over] > 0)
        smaller = np.where(genomes[over] >= 0, genomes[over], 0)[parents]
        smaller[np.arange(len(parents)), columns] -= 1
        smaller = screen.space.canonical(smaller)
        taken_off = screen.excess(genomes[over])[parents] - screen.excess(smaller)
        given_up = score(genomes[over])[parents] - score(smaller)
        # Where a smaller value is not even worse, the more is taken off the better.
        price = np.where(given_up > 0, given_up / np.maximum(taken_off, 1e-12), given_up * np.maximum(taken_off, 1e-12))
        price = np.where(taken_off > 0, price, np.inf)
        for row, index in enumerate(over):
            steps = np.flatnonzero(parents == row)
            if len(steps) and np.isfinite(price[steps]).any():
                genomes[index] = smaller[steps[np.argmin(price[steps])]]
            else:
                hopeless[index] = True
    return genomes[~hopeless]
