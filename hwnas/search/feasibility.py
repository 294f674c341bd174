"""The least that a space can do of what budgets limit, and the refusal of budgets below it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.errors import InfeasibleBudgetError
from hwnas.search.budget import Budget, Floats, LatencyPredictor
from hwnas.search.constraints import Constraint, worst_excess
from hwnas.spaces import Architecture, Genomes, Space

MAX_SWEEPS = 20
OUTSIDE = 1e6
"""Cost of breaking a budget that must be kept; far above any excess."""


def fastest(space: Space, latency_model: LatencyPredictor, z: float = 0.0) -> tuple[Architecture, float]:
    """The architecture of least mean + z·std, and its predicted mean latency in ms; see :func:`descend`."""

    def cost(genomes: Genomes) -> Floats:
        mean, std = latency_model.predict(genomes)
        return mean + z * std

    best = descend(space, cost)
    return space.decode(best)[0], float(latency_model.predict(best)[0][0])


def descend(space: Space, cost: Callable[[Genomes], Floats], starts: Genomes | None = None) -> Genomes:
    """The architecture of least cost [n] over canonical rows [n, choices], as [1, choices].

    Coordinate descent at every resolution from ``starts``, the smallest architecture by default, over each choice and
    over all choices of each slot together, until nothing improves.  With the resolution held, an additive model of
    positive block costs separates into slots, and the result is the exact minimum; for any other it is a local one.
    """
    starts = space.smallest_genome if starts is None else starts
    genes = np.repeat(starts.clip(min=0), len(space.resolutions), axis=0)
    genes[:, space.position("resolution")] = np.tile(np.arange(len(space.resolutions)), len(starts))

    def cost_of(rows: Genomes) -> Floats:
        return cost(space.canonical(rows))

    least = cost_of(genes)
    for _ in range(MAX_SWEEPS):
        before = least.sum()
        for columns, values in _moves(space):
            genes, least = _best_of(genes, columns, values, cost_of)
        if not least.sum() < before:
            break
    return space.canonical(genes[[int(np.argmin(least))]])


@dataclass(frozen=True)
class Feasible:
    """What is known once budgets can be kept.

    Attributes:
        fastest: the fastest architecture by the latency model, and its predicted mean in ms.
        start: an architecture that keeps all budgets, [1, choices].
    """

    fastest: tuple[Architecture, float]
    start: Genomes


def require_feasible(
    space: Space,
    latency_model: LatencyPredictor,
    budget: Budget,
    measure: Callable[[Architecture], float | None] | None = None,
    others: Sequence[Constraint] = (),
) -> Feasible:
    """Make sure that some architecture keeps the budget, and all others with it.

    Args:
        measure: measures what the budget limits, in ms, if it can; called for the message, when it is refused.
        others: further budgets.

    Raises:
        InfeasibleBudgetError: none does; the message says which budget cannot be kept, and the least possible of it.
    """
    architecture, mean = fastest(space, latency_model, budget.z)
    start = space.encode([architecture])
    if not budget.keeps(*latency_model.predict(start))[0]:
        raise _too_fast(space, latency_model, budget, architecture, measure)
    least = [start]
    for constraint in others:
        least.append(descend(space, constraint.upper))
        if not constraint.keeps(least[-1])[0]:
            raise _too_small(space, constraint, least[-1])
    if others:
        start = _keep_all(space, [Constraint(budget, latency_model), *others], np.concatenate(least))
    return Feasible((architecture, mean), start)


def _keep_all(space: Space, constraints: Sequence[Constraint], starts: Genomes) -> Genomes:
    """An architecture that keeps all constraints, each of which can be kept alone by one of ``starts``.

    Raises:
        InfeasibleBudgetError: none was found.
    """

    def worst(genomes: Genomes) -> Floats:
        return worst_excess(constraints, genomes)

    nearest = descend(space, worst, starts)
    if worst(nearest)[0] <= 0:
        return nearest
    broken = max(constraints, key=lambda constraint: float(constraint.excess(nearest)[0]))
    kept = [constraint for constraint in constraints if constraint is not broken]

    def with_others_kept(genomes: Genomes) -> Floats:
        over = worst_excess(kept, genomes)
        return np.where(over <= 0, broken.excess(genomes), OUTSIDE * (1 + over))

    best = descend(space, with_others_kept, np.concatenate([nearest, starts]))
    if with_others_kept(best)[0] <= 0:
        return best
    raise InfeasibleBudgetError(
        f"No architecture of {space.name} was found that keeps all budgets at once: where "
        f"{' and '.join(_told(c.budget) for c in kept)} {'is' if len(kept) == 1 else 'are'} kept, the least found "
        f"{broken.budget.place}{' ' if broken.budget.place else ''}is "
        f"{broken.budget.amount(float(broken.upper(best)[0]))} ({space.decode(best)[0].id}), not "
        f"{broken.budget}; raise that budget or another."
    )


def _told(budget: Budget) -> str:
    return " ".join(filter(None, [str(budget), budget.place]))


def _too_small(space: Space, constraint: Constraint, least: Genomes) -> InfeasibleBudgetError:
    budget = constraint.budget
    sure = f" at confidence {budget.confidence:g}" if budget.quantity == "latency_ms" else ""
    return InfeasibleBudgetError(
        f"No architecture of {space.name} keeps {_told(budget)}: the least possible is "
        f"{budget.amount(float(constraint.upper(least)[0]))}{sure} ({space.decode(least)[0].id}); raise that budget or "
        "choose a smaller space."
    )


def _too_fast(
    space: Space,
    latency_model: LatencyPredictor,
    budget: Budget,
    architecture: Architecture,
    measure: Callable[[Architecture], float | None] | None,
) -> InfeasibleBudgetError:
    mean, std = latency_model.predict(space.encode([architecture]))
    upper = float(budget.upper(mean, std)[0])
    measured = None if measure is None else measure(architecture)
    known = f"{mean[0]:.4g} ms by prediction" if measured is None else f"{measured:.4g} ms as measured"
    if measured is not None and measured <= budget.limit:
        return InfeasibleBudgetError(
            f"The fastest architecture of {space.name}, {architecture.id}, keeps {budget} on "
            f"{budget.target} as measured ({measured:.4g} ms) but not by the latency model at confidence "
            f"{budget.confidence:g} ({upper:.4g} ms); raise the budget to {upper:.4g} ms or lower the confidence."
        )
    return InfeasibleBudgetError(
        f"No architecture of {space.name} keeps {budget} on {budget.target}: the fastest, "
        f"{architecture.id}, takes {known} (at most {upper:.4g} ms at confidence {budget.confidence:g}); "
        "raise the budget or choose a smaller space."
    )


def _moves(space: Space) -> list[tuple[list[int], Genomes]]:
    """Columns that are changed together, the resolution excepted, and all their values [m, columns]."""
    groups = {(choice.label,) for choice in space.choices} | {slot.choices for slot in space.slots}
    columns = {tuple(space.position(label) for label in group if label != "resolution") for group in groups}
    return [
        (list(group), np.array(list(itertools.product(*(range(len(space.choices[j].values)) for j in group))), np.int8))
        for group in sorted(columns)
        if group
    ]


def _best_of(
    genes: Genomes, columns: list[int], values: Genomes, cost: Callable[[Genomes], Floats]
) -> tuple[Genomes, Floats]:
    """Set ``columns`` of each row to the values of least cost."""
    trials = np.repeat(genes[:, None], len(values), axis=1)
    trials[:, :, columns] = values
    costs: npt.NDArray[np.float64] = cost(trials.reshape(-1, genes.shape[1])).reshape(len(genes), len(values))
    rows, best = np.arange(len(genes)), costs.argmin(axis=1)
    return trials[rows, best], costs[rows, best]
