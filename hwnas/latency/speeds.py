"""How fast boards of one kind are beside each other, so that what they measured enters one table.

The canary tells it beforehand, and networks that several boards measured tell it better: the logarithm of a latency is
taken for the sum of one term for the network and one for the board (a two-way layout), with Student's noise since a
measurement may be spoilt wholly.  A factor is a board's time over the geometric mean of all boards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.latency.base import Floats

FURTHEST = 0.10
"""A board whose times are by more than this share off the middle of the boards' is none to profile with."""
_CANARY_TELLS = 0.02
"""By which share a board's networks are off what its canary says (standard deviation), before any was measured."""
_UNKNOWN = 0.10
"""The same where nothing is gated."""
_NOISE, _NOISE_WEIGHT = 0.01, 2.0
"""Relative deviation of a measured network expected beforehand, and as how many networks that counts."""
_FREEDOM = 4.0
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Speed:
    """A board's times over those of the kind, and the relative standard deviation of that."""

    factor: float
    spread: float


def board_speeds(canary_ms: Mapping[str, float | None], networks_ms: Sequence[Mapping[str, float]]) -> dict[str, Speed]:
    """The speed of each board; the geometric mean of the factors is 1.

    Args:
        canary_ms: by board, its canary's fast state; ``None``: unknown.
        networks_ms: of each network, by board, its median.
    """
    boards = list(canary_ms)
    if len(boards) < 2:
        return {board: Speed(1.0, 0.0) for board in boards}
    told = [canary_ms[board] for board in boards]
    known = all(told)
    prior = np.log([ms if known and ms else 1.0 for ms in told])
    prior -= prior.mean()
    precision = np.eye(len(boards)) / (_CANARY_TELLS if known else _UNKNOWN) ** 2
    ties = [[boards.index(board) for board in network] for network in networks_ms]
    logs = [np.log(list(network.values())) for network in networks_ms]
    tied = [i for i, at in enumerate(ties) if len(at) > 1]
    factors, covariance = prior, np.linalg.inv(precision)
    weights = [np.ones(len(ties[i])) for i in tied]
    variance = _NOISE**2
    for _ in range(_ROUNDS if tied else 0):
        information, pull = precision.copy(), precision @ prior
        for i, weight in zip(tied, weights, strict=True):
            # The network's own term, known by nothing else, is projected out.
            inner = (np.diag(weight) - np.outer(weight, weight) / weight.sum()) / variance
            information[np.ix_(ties[i], ties[i])] += inner
            pull[ties[i]] += inner @ logs[i]
        covariance = np.linalg.inv(information)
        factors = covariance @ pull
        residuals = [_residuals(logs[i] - factors[ties[i]], weight) for i, weight in zip(tied, weights, strict=True)]
        variance = _variance(residuals, weights, len(boards) - 1)
        weights = [(_FREEDOM + 1) / (_FREEDOM + each**2 / variance) for each in residuals]
    factors = factors - factors.mean()
    centre = np.eye(len(boards)) - 1 / len(boards)
    spreads = np.sqrt(np.diag(centre @ covariance @ centre))
    return {board: Speed(math.exp(f), float(s)) for board, f, s in zip(boards, factors, spreads, strict=True)}


def between_boards(speeds: Mapping[str, Speed]) -> float:
    """Relative standard deviation between boards of the kind, as far as it exceeds what the factors are known by."""
    if len(speeds) < 2:
        return 0.0
    logs = np.log([speed.factor for speed in speeds.values()])
    unknown = np.mean([speed.spread**2 for speed in speeds.values()])
    return math.sqrt(max(0.0, float(np.var(logs, ddof=1) - unknown)))


def furthest_off(speeds: Mapping[str, Speed]) -> tuple[tuple[str, ...], float]:
    """The board whose times are surely off the middle of all by more than :data:`FURTHEST`, and by which share.

    No board, if none is; of two boards both, since nothing tells which of them it is.
    """
    if len(speeds) < 2:
        return (), 0.0
    logs = {board: math.log(speed.factor) for board, speed in speeds.items()}
    middle = float(np.median(list(logs.values())))
    worst = max(logs, key=lambda board: abs(logs[board] - middle))
    two = len(logs) == 2
    apart = 2.0 if two else 1.0
    off = apart * (logs[worst] - middle)
    if abs(off) - 2 * apart * speeds[worst].spread <= math.log1p(FURTHEST):
        return (), 0.0
    return tuple(logs) if two else (worst,), math.expm1(off)


def _residuals(logs: Floats, weight: Floats) -> Floats:
    return np.asarray(logs - np.average(logs, weights=weight), np.float64)


def _variance(residuals: Sequence[Floats], weights: Sequence[Floats], boards: int) -> float:
    squares = sum(float(weight @ each**2) for each, weight in zip(residuals, weights, strict=True))
    freedom = sum(len(each) - 1 for each in residuals) - boards
    return float((squares + _NOISE_WEIGHT * _NOISE**2) / (max(0, freedom) + _NOISE_WEIGHT))
