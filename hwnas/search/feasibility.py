"""The fastest architecture of a space by a latency model, and the refusal of budgets below it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hwnas.errors import InfeasibleBudgetError
from hwnas.search.budget import Budget, Floats, LatencyPredictor
from hwnas.spaces import Architecture, Genomes, Space

MAX_SWEEPS = 20


def fastest(space: Space, latency_model: LatencyPredictor, z: float = 0.0) -> tuple[Architecture, float]:
    """The architecture of least mean + z·std, and its predicted mean latency in ms.

    Coordinate descent from the smallest architecture at every resolution, over each choice and over all choices of
    each slot together, until nothing improves.  With the resolution held, an additive model of positive block times
    separates into slots, and the result is the exact minimum; for any other model it is a local one.
    """
    genes = np.repeat(space.smallest_genome.clip(min=0), len(space.resolutions), axis=0)
    genes[:, space.position("resolution")] = np.arange(len(space.resolutions))

    def cost(rows: Genomes) -> Floats:
        mean, std = latency_model.predict(space.canonical(rows))
        return mean + z * std

    least = cost(genes)
    for _ in range(MAX_SWEEPS):
        before = least.sum()
        for columns, values in _moves(space):
            genes, least = _best_of(genes, columns, values, cost)
        if not least.sum() < before:
            break
    best = space.canonical(genes[[int(np.argmin(least))]])
    return space.decode(best)[0], float(latency_model.predict(best)[0][0])


def require_feasible(
    space: Space,
    latency_model: LatencyPredictor,
    budget: Budget,
    measure: Callable[[Architecture], float | None] | None = None,
) -> tuple[Architecture, float]:
    """:func:`fastest`, if it keeps the budget.

    Args:
        measure: measures what the budget limits, in ms, if it can; called for the message, when it is refused.

    Raises:
        InfeasibleBudgetError: it does not; the message says how fast the fastest is.
    """
    architecture, mean = fastest(space, latency_model, budget.z)
    prediction = latency_model.predict(space.encode([architecture]))
    if budget.keeps(*prediction)[0]:
        return architecture, mean
    upper = float(budget.upper(*prediction)[0])
    measured = None if measure is None else measure(architecture)
    known = f"{mean:.4g} ms by prediction" if measured is None else f"{measured:.4g} ms as measured"
    if measured is not None and measured <= budget.limit:
        raise InfeasibleBudgetError(
            f"The fastest architecture of {space.name}, {architecture.id}, keeps {budget} on "
            f"{budget.target} as measured ({measured:.4g} ms) but not by the latency model at confidence "
            f"{budget.confidence:g} ({upper:.4g} ms); raise the budget to {upper:.4g} ms or lower the confidence."
        )
    raise InfeasibleBudgetError(
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
