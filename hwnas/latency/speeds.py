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
import numpy.typing as npt

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
    ties = [
        _Tie(np.array([boards.index(board) for board in network]), np.log(list(network.values())))
        for network in networks_ms
        if len(network) > 1
    ]
    logs, covariance = _fitted(*_told_by_canaries(list(canary_ms.values())), ties)
    centre = np.eye(len(boards)) - 1 / len(boards)
    spreads = np.sqrt(np.diag(centre @ covariance @ centre))
    factors = np.exp(logs - logs.mean())
    return {board: Speed(float(f), float(s)) for board, f, s in zip(boards, factors, spreads, strict=True)}


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


@dataclass(frozen=True)
class _Tie:
    """A network that several boards measured."""

    boards: npt.NDArray[np.intp]
    logs: Floats
    """Of its latencies, [boards]."""

    def information(self, weights: Floats) -> Floats:
        """What it says of its boards, [boards, boards]: its own term, known by nothing else, is projected out."""
        return np.asarray(np.diag(weights) - np.outer(weights, weights) / weights.sum(), np.float64)

    def residuals(self, factors: Floats, weights: Floats) -> Floats:
        """[boards]."""
        relative = self.logs - factors[self.boards]
        return np.asarray(relative - np.average(relative, weights=weights), np.float64)


def _told_by_canaries(canary_ms: Sequence[float | None]) -> tuple[Floats, Floats]:
    """The logarithms of the factors that are expected beforehand, [boards], and their precision, [boards, boards]."""
    known = [ms for ms in canary_ms if ms is not None]
    if len(known) < len(canary_ms):
        return np.zeros(len(canary_ms)), np.eye(len(canary_ms)) / _UNKNOWN**2
    logs = np.log(known)
    return logs - logs.mean(), np.eye(len(known)) / _CANARY_TELLS**2


def _fitted(prior: Floats, precision: Floats, ties: Sequence[_Tie]) -> tuple[Floats, Floats]:
    """The logarithms of the factors and their covariance; noise and weights are estimated in turn with them."""
    logs = prior
    weights = [np.ones(len(tie.boards)) for tie in ties]
    variance = _NOISE**2
    for _ in range(_ROUNDS if ties else 0):
        information, pull = precision.copy(), precision @ prior
        for tie, weight in zip(ties, weights, strict=True):
            told = tie.information(weight) / variance
            information[np.ix_(tie.boards, tie.boards)] += told
            pull[tie.boards] += told @ tie.logs
        logs = np.asarray(np.linalg.solve(information, pull), np.float64)
        residuals = [tie.residuals(logs, weight) for tie, weight in zip(ties, weights, strict=True)]
        variance = _variance(residuals, weights, len(prior))
        weights = [(_FREEDOM + 1) / (_FREEDOM + each**2 / variance) for each in residuals]
    information = precision.copy()
    for tie in ties:
        # Of Student's distribution, in expectation (Lange, Little and Taylor 1989, Sec. 4).
        expected = (_FREEDOM + 1) / (_FREEDOM + 3) * tie.information(np.ones(len(tie.boards))) / variance
        information[np.ix_(tie.boards, tie.boards)] += expected
    return logs, np.asarray(np.linalg.inv(information), np.float64)


def _variance(residuals: Sequence[Floats], weights: Sequence[Floats], boards: int) -> float:
    squares = sum(float(weight @ each**2) for each, weight in zip(residuals, weights, strict=True))
    freedom = max(0, sum(len(each) - 1 for each in residuals) - (boards - 1))
    return float((squares + _NOISE_WEIGHT * _NOISE**2) / (freedom + _NOISE_WEIGHT))
