"""The evaluations that no other one beats in both accuracy and latency."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.search.record import Evaluation


def pareto_front(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """Non-dominated evaluations in predicted latency (less is better) and top-1, fastest first.

    Of evaluations equal in both, the first evaluated stays.
    """
    front: list[Evaluation] = []
    for evaluation in sorted(evaluations, key=lambda e: (e.predicted_ms, -e.top1, e.index)):
        if not front or evaluation.top1 > front[-1].top1:
            front.append(evaluation)
    return tuple(front)
