"""Which model of a slot serves: the most accurate one within the budget, a faster one while heat slows the device."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence

STEP_S = 10.0
"""Heat that lasts so much longer has the service take another step to a faster model."""
COOL_S = 30.0
"""Cool for so long, it takes a step back."""


class Choice(NamedTuple):
    """The model that serves, by its place in the bundle, and whether it keeps the budget."""

    place: int
    fits: bool


def choose(expected_ms: Sequence[float], budget_ms: Optional[float], steps: int = 0) -> Choice:
    """
    Args:
        expected_ms: latency of each model, the most accurate model first.
        budget_ms: the limit; ``None``: there is none.
        steps: how many models further to go, each faster than the one before.

    Returns:
        The first that fits, or the fastest where none does; from there, ``steps`` further or as far as it goes.
    """
    ladder = _ladder(expected_ms, budget_ms)
    place = ladder[min(steps, len(ladder) - 1)]
    return Choice(place, fits=budget_ms is None or expected_ms[place] <= budget_ms)


def most_steps(expected_ms: Sequence[float], budget_ms: Optional[float]) -> int:
    """How many steps :func:`choose` can take."""
    return len(_ladder(expected_ms, budget_ms)) - 1


def _ladder(expected_ms: Sequence[float], budget_ms: Optional[float]) -> List[int]:
    """The models to serve in turn, each faster than the one before; the fastest alone where none fits."""
    fitting = [place for place, expected in enumerate(expected_ms) if budget_ms is None or expected <= budget_ms]
    if not fitting:
        return [min(range(len(expected_ms)), key=expected_ms.__getitem__)]
    ladder = fitting[:1]
    for place in fitting[1:]:
        if expected_ms[place] < expected_ms[ladder[-1]]:
            ladder.append(place)
    return ladder


class Governor:
    """How many steps to a faster model heat asks for, with hysteresis: up at once, down only after a cool while."""

    def __init__(self, step_s: float = STEP_S, cool_s: float = COOL_S) -> None:
        self._step_s, self._cool_s = step_s, cool_s
        self._hot = False
        self._since = 0.0
        self.steps = 0

    def observe(self, hot: bool, now: float, most: int) -> int:
        """The steps after one more reading.

        Args:
            hot: whether heat slows the device down now.
            now: time in seconds, never falling.
            most: the most steps that lead anywhere.
        """
        if hot != self._hot:
            self._hot, self._since = hot, now
            if hot:
                self.steps = max(self.steps, 1)
        elif now - self._since >= (self._step_s if hot else self._cool_s):
            self._since = now
            self.steps += 1 if hot else -1
        self.steps = max(0, min(self.steps, most))
        return self.steps
