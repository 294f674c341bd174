"""Checks of arguments that are better made before anything is imported or written."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from hwnas.errors import UserError

if TYPE_CHECKING:
    from hwnas.search import Percentile


def check_name(name: str) -> None:
    """A run's name becomes a directory.

    Raises:
        UserError: it could not, or not below the directory of runs.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"'{name}' cannot name a run; use letters, digits, '-', '_' and '.'.")


def check_budget(budget_ms: float | None, confidence: float) -> None:
    """A latency budget and the confidence with which it is to be kept.

    Raises:
        UserError: one is out of range.
    """
    if budget_ms is not None and not (math.isfinite(budget_ms) and budget_ms > 0):
        raise UserError(f"--budget takes a positive number of milliseconds, not {budget_ms:g}.")
    if not 0.5 <= confidence < 1:
        raise UserError(f"--confidence is at least 0.5 and less than 1, not {confidence:g}.")


def check_statistic(statistic: str) -> Percentile:
    """What a budget limits of the latency.

    Raises:
        UserError: it is neither p50 nor p99.
    """
    if statistic not in ("p50", "p99"):
        raise UserError(f"--statistic is p50 or p99, not '{statistic}'.")
    return "p50" if statistic == "p50" else "p99"


def check_evaluations(evaluations: int) -> None:
    """How many candidates a search evaluates.

    Raises:
        UserError: none.
    """
    if evaluations < 1:
        raise UserError(f"A search evaluates at least one candidate, not {evaluations}.")
