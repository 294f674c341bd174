"""A space so small that all of its architectures can be looked at."""

from __future__ import annotations

import itertools

import numpy as np

from hwnas.search.additive import AdditiveTerms
from hwnas.spaces import Choice, Slot, Space


def tiny() -> Space:
    """Two resolutions and two stages of one or two blocks."""
    choices = [Choice("resolution", (8, 16))]
    slots = []
    for s in (1, 2):
        choices.append(Choice(f"stage{s}.depth", (1, 2)))
        for b in (1, 2):
            labels = (f"stage{s}.block{b}.kernel", f"stage{s}.block{b}.expansion")
            choices += [Choice(label, (3, 5), f"stage{s}.depth", b - 1) for label in labels]
            slots.append(Slot(f"stage{s}.block{b}", ("resolution", *labels), lambda *_: None))
    return Space("toy", "tiny", 10, choices, slots)


TINY = tiny()
EVERY = np.array(list(itertools.product(range(2), repeat=len(TINY.choices))), np.int8)
EVERY = np.unique(TINY.canonical(EVERY), axis=0)


def random_terms(rng: np.random.Generator, low: float, high: float) -> AdditiveTerms:
    """A sum over blocks with uniform terms."""
    return AdditiveTerms(
        TINY,
        rng.uniform(low, high, 2),
        tuple(rng.uniform(low, high, (2, 2)) for _ in range(2)),
        tuple(tuple(rng.uniform(low, high, (2, 4)) for _ in range(2)) for _ in range(2)),
    )
