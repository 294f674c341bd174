"""What each choice of an architecture buys in accuracy and costs in milliseconds, and what to change first.

By prediction alone: the accuracy predictor of the search, the latency model of the device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwnas.files import Document
from hwnas.search.accuracy import AccuracyPredictor, taught
from hwnas.search.budget import Floats
from hwnas.search.record import Evaluation
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture, Genomes, Space

CHANGE_OF_BUDGET = 0.1
MAX_MOVES = 64


class Change(Document):
    """A choice before and after; None where it is inactive."""

    label: str
    before: int | None
    after: int | None


class Move(Document):
    """One choice changed, with those that it activates or silences.

    Attributes:
        label: the choice that was changed.
        changes: all that differs, in the order of the space.
        top1: what the predicted accuracy gains, a fraction.
        top1_std: standard deviation of the predicted accuracy after it.
        latency_ms: what is added to the predicted mean latency.
    """

    label: str
    changes: tuple[Change, ...]
    top1: float
    top1_std: float
    latency_ms: float

    def __str__(self) -> str:
        """Such as ``stage2.depth 2 to 3, with stage2.block3.kernel 5, stage2.block3.expansion 4``."""
        changed = next(change for change in self.changes if change.label == self.label)
        woken = [f"{change.label} {change.after}" for change in self.changes if change.before is None]
        return f"{self.label} {changed.before} to {changed.after}" + (f", with {', '.join(woken)}" if woken else "")


class ChoiceEffect(Document):
    """An active choice and the moves to the next lower and the next higher value; None where there is none."""

    label: str
    value: int
    lower: Move | None
    higher: Move | None


class ChangedBudget(Document):
    """What to change, in order, when the latency budget does.

    Attributes:
        limit_ms: the new limit.
        moves: each after those before it; the first is what to change first.
        top1: predicted after all of them.
        latency_ms: predicted mean after all of them.
        keeps: whether all budgets are then kept.
    """

    limit_ms: float
    moves: tuple[Move, ...]
    top1: float
    latency_ms: float
    keeps: bool


class Explanation(Document):
    """An architecture explained by predictions: accuracies are fractions, latencies mean ms.

    ``grown`` and ``shrunk`` say what to change when the budget grows or shrinks by 10 %.
    """

    architecture: str
    top1: float
    top1_std: float
    latency_ms: float
    choices: tuple[ChoiceEffect, ...]
    grown: ChangedBudget
    shrunk: ChangedBudget


def explain(screen: Screen, predictor: AccuracyPredictor, genome: Genomes) -> Explanation:
    """Explain an architecture, [1, choices], that keeps the screen's budgets.

    Args:
        predictor: fitted to what was evaluated.
    """
    neighbourhood = _Neighbourhood(screen, predictor, genome)
    top1, std = predictor.predict(genome)
    return Explanation(
        architecture=screen.space.ids(genome)[0],
        top1=float(top1[0]),
        top1_std=float(std[0]),
        latency_ms=float(screen.latency(genome)[0]),
        choices=tuple(neighbourhood.effects()),
        grown=_changed(screen, predictor, genome, 1 + CHANGE_OF_BUDGET, _grow),
        shrunk=_changed(screen, predictor, genome, 1 - CHANGE_OF_BUDGET, _shrink),
    )


def explain_evaluated(
    screen: Screen, evaluations: Sequence[Evaluation], architecture: Architecture
) -> Explanation | None:
    """:func:`explain` an architecture by what a Gaussian process learns from evaluations; None from fewer than two."""
    predictor = taught(screen.space, evaluations)
    return None if predictor is None else explain(screen, predictor, screen.space.encode([architecture]))


@dataclass(frozen=True)
class _Neighbours:
    """Architectures one move away.

    Attributes:
        genomes: [n, choices].
        columns: which choice was changed, [n].
        top1, std, latency: predicted, [n].
    """

    genomes: Genomes
    columns: Sequence[int]
    top1: Floats
    std: Floats
    latency: Floats


class _Neighbourhood:
    """An architecture and all that is one move away."""

    def __init__(self, screen: Screen, predictor: AccuracyPredictor, genome: Genomes) -> None:
        self.space = screen.space
        self.genome = genome
        self.top1 = float(predictor.predict(genome)[0][0])
        self.latency = float(screen.latency(genome)[0])
        found = list(_moves(self.space, genome))
        genomes = np.concatenate([genomes for _, genomes in found])
        columns = [column for column, genomes in found for _ in range(len(genomes))]
        self.all = _Neighbours(genomes, columns, *predictor.predict(genomes), screen.latency(genomes))

    def effects(self) -> Iterator[ChoiceEffect]:
        """What each active choice buys and costs."""
        for column, choice in enumerate(self.space.choices):
            value = int(self.genome[0, column])
            if value >= 0 and len(choice.values) > 1:
                lower, higher = (self._best_at(column, value + step) for step in (-1, 1))
                yield ChoiceEffect(label=choice.label, value=choice.values[value], lower=lower, higher=higher)

    def _best_at(self, column: int, value: int) -> Move | None:
        """The move of a choice to a value; of those that differ in what it activates, the most accurate."""
        at = [i for i, c in enumerate(self.all.columns) if c == column and self.all.genomes[i, column] == value]
        return self.move(max(at, key=lambda i: self.all.top1[i])) if at else None

    def move(self, index: int) -> Move:
        """One of :attr:`all` in words."""
        after = self.all.genomes[index]
        return Move(
            label=self.space.choices[self.all.columns[index]].label,
            changes=tuple(
                Change(
                    label=self.space.choices[j].label,
                    before=_value(self.space, j, int(self.genome[0, j])),
                    after=_value(self.space, j, int(after[j])),
                )
                for j in map(int, np.flatnonzero(self.genome[0] != after))
            ),
            top1=float(self.all.top1[index]) - self.top1,
            top1_std=float(self.all.std[index]),
            latency_ms=float(self.all.latency[index]) - self.latency,
        )


def _value(space: Space, column: int, gene: int) -> int | None:
    return space.choices[column].values[gene] if gene >= 0 else None


def _moves(space: Space, genome: Genomes) -> Iterator[tuple[int, Genomes]]:
    """Every choice set to each of its other values, with every value of the choices that this activates."""
    for column, choice in enumerate(space.choices):
        if genome[0, column] < 0:
            continue
        for value in range(len(choice.values)):
            if value == genome[0, column]:
                continue
            changed = genome.clip(min=0)
            changed[0, column] = value
            woken = np.flatnonzero((space.canonical(changed)[0] >= 0) & (genome[0] < 0))
            fillings = list(itertools.product(*(range(len(space.choices[j].values)) for j in woken)))
            filled = np.repeat(changed, len(fillings), axis=0)
            filled[:, woken] = np.array(fillings, np.int8).reshape(len(fillings), len(woken))
            yield column, space.canonical(filled)


def _changed(
    screen: Screen,
    predictor: AccuracyPredictor,
    genome: Genomes,
    factor: float,
    choose: Callable[[Screen, _Neighbourhood], int | None],
) -> ChangedBudget:
    """Move greedily, by what ``choose`` picks, under the latency budget times ``factor``."""
    changed = replace(screen, budget=replace(screen.budget, limit=factor * screen.budget.limit))
    moves: list[Move] = []
    for _ in range(MAX_MOVES):
        neighbourhood = _Neighbourhood(changed, predictor, genome)
        index = choose(changed, neighbourhood)
        if index is None:
            break
        moves.append(neighbourhood.move(index))
        genome = neighbourhood.all.genomes[[index]]
    return ChangedBudget(
        limit_ms=changed.budget.limit,
        moves=tuple(moves),
        top1=float(predictor.predict(genome)[0][0]),
        latency_ms=float(changed.latency(genome)[0]),
        keeps=bool(changed.keeps(genome)[0]),
    )


def _grow(screen: Screen, around: _Neighbourhood) -> int | None:
    """The move within the budgets that gains most; None when none gains."""
    gains = np.where(screen.keeps(around.all.genomes), around.all.top1 - around.top1, -np.inf)
    best = int(np.argmax(gains))
    return best if gains[best] > 0 else None


def _shrink(screen: Screen, around: _Neighbourhood) -> int | None:
    """The move that loses least accuracy for each millisecond saved; None when the budgets are kept.

    A move that is enough by itself is judged by what is needed of it.
    """
    if screen.keeps(around.genome)[0]:
        return None
    before = float(screen.excess(around.genome)[0])
    saved = np.minimum(before - screen.excess(around.all.genomes), before)
    lost = np.maximum(around.top1 - around.all.top1, 0.0)
    cost = np.where(saved > 0, lost / np.where(saved > 0, saved, 1.0), np.inf)
    best = int(np.lexsort((-saved, cost))[0])
    return best if np.isfinite(cost[best]) else None
