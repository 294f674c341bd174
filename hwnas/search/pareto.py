"""The evaluations that no other one beats in everything that is wanted of them."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.search.record import Evaluation


def pareto_front(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """Non-dominated evaluations in top-1 and, less being better, in all predicted quantities; fastest first.

    The quantities are the latency and those of the search's other budgets.  Of evaluations equal in everything, the
    first evaluated stays.
    """
    front: list[tuple[float, ...]] = []
    found: list[Evaluation] = []
    # Whatever dominates an evaluation comes before it in lexicographic order.
    for costs, evaluation in sorted(((_costs(e), e) for e in evaluations), key=lambda each: (each[0], each[1].index)):
        if not any(all(a <= b for a, b in zip(other, costs, strict=True)) for other in front):
            front.append(costs)
            found.append(evaluation)
    return tuple(found)


def _costs(evaluation: Evaluation) -> tuple[float, ...]:
    return (evaluation.predicted_ms, *(other.mean for other in evaluation.others), -evaluation.top1)
