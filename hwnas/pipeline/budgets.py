"""Budgets as a user writes them, and what predicts the quantities that they limit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from hwnas.devices import BACK_TO_BACK, load_target
from hwnas.errors import UserError
from hwnas.latency import LatencyTable, fit_latency_model, load_table
from hwnas.latency.store import table_stem
from hwnas.latency.table import Statistic
from hwnas.search.budget import Budget, Percentile, Quantity
from hwnas.search.constraints import Constraint, architecture_constraint
from hwnas.spaces import Space, precisions_of

_FACTORS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
ARCHITECTURE_QUANTITIES = tuple(name for name in get_args(Quantity) if name != "latency_ms")


@dataclass(frozen=True, slots=True)
class WrittenBudgets:
    """Budgets as given on a command line.

    Attributes:
        latency_ms: the limit on the target itself, which is promised; None where none was given.
        others: what is limited, a quantity or a target or a table's path, and how far.
    """

    latency_ms: float | None
    others: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, texts: Sequence[str]) -> WrittenBudgets:
        """Read ``0.1`` (ms on the target), ``macs=3M``, ``note10=20`` (ms there), ``tables/a.json=20``.

        Raises:
            UserError: a text is neither, or something is limited twice.
        """
        latency_ms: float | None = None
        others: dict[str, float] = {}
        for text in texts:
            what, separator, amount = text.rpartition("=")
            limit = _amount(text, amount)
            if not separator:
                if latency_ms is not None:
                    raise UserError(f"--budget {text}: the target has one latency budget; {latency_ms:g} was given.")
                latency_ms = limit
            elif what == "energy_mj":
                raise UserError(f"--budget {text}: no latency table holds energies yet; limit something else.")
            elif not what or what in others:
                raise UserError(f"--budget {text}: {f'{what} is limited twice' if what else 'name what is limited'}.")
            else:
                others[what] = limit
        return cls(latency_ms, tuple(others.items()))


def _amount(text: str, amount: str) -> float:
    """A positive number; thousands, millions and milliards may be k, M and G."""
    found = re.fullmatch(r"(.*?)([kMG]?)", amount.strip())
    assert found is not None, "the pattern takes every text"
    try:
        value = float(found[1]) * _FACTORS[found[2]]
    except ValueError as error:
        raise UserError(
            f"--budget takes a positive number of milliseconds, or WHAT=LIMIT such as macs=3M or note10=20, not {text}."
        ) from error
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"--budget takes a positive number of milliseconds, not {text}.")
    return value


def open_constraints(
    others: Sequence[tuple[str, float]],
    space: Space,
    tables: Path,
    *,
    statistic: Percentile = "p50",
    confidence: float = 0.95,
) -> tuple[Constraint, ...]:
    """The constraints of further budgets.

    Args:
        others: as :attr:`WrittenBudgets.others`.
        tables: directory of all latency tables, in which those of other targets are looked for.
        statistic, confidence: of the latencies of other targets, with runs back to back.

    Raises:
        UserError: there is no such quantity or table, or several tables, or the table is of another space.
        BadFileError: a table is damaged.
    """
    return tuple(
        architecture_constraint(space, what, limit)  # type: ignore[arg-type]
        if what in ARCHITECTURE_QUANTITIES
        else _on_another_device(what, limit, space, tables, statistic, confidence)
        for what, limit in others
    )


def _on_another_device(
    what: str, limit: float, space: Space, tables: Path, statistic: Percentile, confidence: float
) -> Constraint:
    path = _find(what, space, tables)
    if precisions_of(space):
        raise UserError(f"--budget {what}=...: a latency on another target can be limited for one precision alone.")
    table = load_table(path)
    if table.arrival != str(BACK_TO_BACK):
        raise UserError(f"Latency table {path} is of runs at {table.arrival}; limit a latency of runs back to back.")
    if table.kind == "emulated":
        raise UserError(f"Latency table {path} is emulated: its times are an emulator's, and limit nothing.")
    if table.kind == "imported" and statistic != "p50":
        raise UserError(f"Imported table {path} knows p50 alone, not {statistic}.")
    model = fit_latency_model(table, space, statistic=Statistic(statistic, gated=_gated(table)))
    budget = Budget(table.target, "latency_ms", limit, statistic=statistic, confidence=confidence, gated=_gated(table))
    return Constraint(budget, model)


def _gated(table: LatencyTable) -> bool:
    """Whether promises for the table's device are kept on gated samples; an imported table has no others."""
    return table.kind == "imported" or load_target(table.target).shared


def _find(what: str, space: Space, tables: Path) -> Path:
    """The table that a path names, or the only one of a target and the space."""
    if what.endswith(".json"):
        return Path(what)
    found = sorted((tables / what).glob(f"{table_stem(space)}.*.json"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise UserError(f"There are several latency tables of {space.name} on {what}: {names}; give one by its path.")
    raise UserError(
        f"--budget {what}=...: there is no latency table of {space.name} below {tables / what}, and {what} is none of "
        f"{', '.join(ARCHITECTURE_QUANTITIES)}."
    )
