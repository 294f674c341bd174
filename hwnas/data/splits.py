"""Which image belongs to which split: stratified, seeded, disjoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
SPLITS = ("train", "validation", "test")


def stratified_sample(labels: Indices, per_class: Sequence[int], rng: np.random.Generator) -> Indices:
    """Draw ``per_class[c]`` of the images of each class ``c`` without replacement, class after class.

    Args:
        labels: int64 [N], the class of each image.

    Returns:
        Sorted positions in ``labels``.

    Raises:
        ValueError: a class has fewer images than asked for.
    """
    drawn = [rng.choice(np.flatnonzero(labels == c), count, replace=False) for c, count in enumerate(per_class)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)
