"""Weights for graphs whose values do not matter, only that they are ordinary numbers."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hwnas.spaces.nodes import Node

Array = npt.NDArray[np.float32]

# A prime, so that the rows of no weight matrix repeat each other in step.
_POOL_SIZE = 65_537
_BIAS_STD = 0.1
_GAINS = {
    "project.conv": 1.0,
    "classifier": 1.0,
    "shortcut.conv": 1.0,
    "widen.conv": 0.1,
    "mix.conv": 1.0,
    "fit.conv": 0.4,
}
"""By the end of a node's name; 2 for all others."""


def random_parameter(node: Node, role: str, seed: int, number: int) -> Array:
    """A parameter of a node, the same for equal arguments; ``number`` tells parameters of one graph apart.

    Weights are scaled so that activations neither vanish into denormal numbers, which are computed more slowly, nor
    overflow: by He et al. 2015, Sec. 2.2, before an activation, and by Glorot and Bengio 2010 with unit gain
    elsewhere; what each of many blocks adds to a rectified sum is smaller, and what a cell
    reads, whose nodes add it up many times.
    """
    shape = node["parameters"][role]
    if role == "bias":
        std = _BIAS_STD
    else:
        gain = next((gain for end, gain in _GAINS.items() if node["name"].endswith(end)), 2.0)
        std = math.sqrt(gain / math.prod(shape[1:]))
    return _normals(seed, number, math.prod(shape)).reshape(shape) * np.float32(std)


def _normals(seed: int, number: int, count: int) -> Array:
    """``count`` normal numbers cut from a pool, since drawing the 10⁷ of a large network takes too long."""
    start = number * 7919 % _POOL_SIZE
    return np.resize(_pool(seed)[start : start + _POOL_SIZE], count)


@lru_cache(maxsize=8)
def _pool(seed: int) -> Array:
    """The pool twice over, so that a slice may begin anywhere in it."""
    return np.tile(np.random.default_rng(seed).standard_normal(_POOL_SIZE, np.float32), 2)
