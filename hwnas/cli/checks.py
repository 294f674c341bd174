"""Checks of arguments that are better made before anything is imported or written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from hwnas.errors import UserError

if TYPE_CHECKING:
    from hwnas.detection.forms import Form
    from hwnas.pipeline.budgets import WrittenBudgets
    from hwnas.search import Percentile
    from hwnas.search.options import Objective


def check_name(name: str) -> None:
    """A run's name becomes a directory.

    Raises:
        UserError: it could not, or not below the directory of runs.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"'{name}' cannot name a run; use letters, digits, '-', '_' and '.'.")


def check_budgets(texts: list[str] | None, confidence: float) -> WrittenBudgets:
    """Budgets, and the confidence with which predictions are to keep them.

    Raises:
        UserError: one cannot be read, or is out of range.
    """
    from hwnas.pipeline.budgets import WrittenBudgets

    written = WrittenBudgets.parse(texts or ())
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence is at least 0.5 and less than 1, not {confidence:g}.")
    return written


def check_statistic(statistic: str) -> Percentile:
    """What a budget limits of the latency.

    Raises:
        UserError: it is neither p50 nor p99.
    """
    if statistic not in ("p50", "p99"):
        raise UserError(f"--statistic is p50 or p99, not '{statistic}'.")
    return "p50" if statistic == "p50" else "p99"


def check_objective(objective: str) -> Objective:
    """What a search seeks.

    Raises:
        UserError: it is neither accuracy nor front.
    """
    if objective not in ("accuracy", "front"):
        raise UserError(f"--objective is accuracy or front, not '{objective}'.")
    return "accuracy" if objective == "accuracy" else "front"


def check_precisions(text: str | None) -> tuple[str, ...]:
    """The precisions named with commas between; none where none is named.

    Raises:
        UserError: one cannot be searched, or is there twice.
    """
    from hwnas.spaces.precision import BITS

    if text is None:
        return ()
    names = tuple(name.strip().lower() for name in text.split(","))
    wrong = next((name for name in names if name not in BITS or names.count(name) > 1), None)
    if wrong is not None:
        raise UserError(f"--precision takes different ones of {', '.join(BITS)} with commas between, not '{text}'.")
    return names


def check_one_precision(text: str | None) -> str | None:
    """The precision of a run.

    Raises:
        UserError: it is none, or several.
    """
    names = check_precisions(text)
    if len(names) > 1:
        raise UserError(f"A run is in one precision, not in {text}; `hwnas search` takes several.")
    return names[0] if names else None


def check_evaluations(evaluations: int) -> None:
    """How many candidates a search evaluates.

    Raises:
        UserError: none.
    """
    if evaluations < 1:
        raise UserError(f"A search evaluates at least one candidate, not {evaluations}.")


def check_detections(form: str) -> Form:
    """What a detector's model is to give.

    Raises:
        UserError: it is none of the three.
    """
    if form not in ("maps", "boxes", "nms"):
        raise UserError(f"--detections is maps, boxes or nms, not '{form}'.")
    return cast("Form", form)
