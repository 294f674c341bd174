"""``hwnas tables diff``: whether two latency tables agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.console import JsonOption, command, milliseconds, out, percent, print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency.difference import KindDifference, TableDifference

DISAGREE = 1
"""Exit status where the tables disagree, as ``diff`` has it; 2 is a mistake in what was asked."""


@command
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A table's file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one's, of the same space.")],
    within: Annotated[float, typer.Option(help="Per cent by which the median entry may differ.")] = 0.5,
    largest: Annotated[int, typer.Option(min=0, help="So many of the largest differences are listed.")] = 10,
    json: JsonOption = False,
) -> None:
    """Compare two tables entry by entry; drift of one device's fast state is divided out; τ: how alike they rank.

    Ends with 0 where the median block and the median network agree, 1 where they do not, 2 where nothing was compared.
    """
    from hwnas.errors import UserError
    from hwnas.latency import load_table
    from hwnas.latency.difference import table_difference

    if not (math.isfinite(within) and within >= 0):
        raise UserError(f"--within takes a number of per cent from 0, not {within:g}.")
    found = table_difference(load_table(first), load_table(second))
    agrees = found.agrees(within / 100)
    if json:
        print_json(_as_json(found, agrees, within, largest))
    else:
        _print(found, agrees, within, largest)
    if not agrees:
        raise typer.Exit(DISAGREE)


def _print(found: TableDifference, agrees: bool, within: float, largest: int) -> None:
    kinds = {"blocks": found.blocks, "networks": found.networks}
    for difference in found.header:
        out.print(f"differs: {difference}", soft_wrap=True, highlight=False, markup=False)
    for name, kind in kinds.items():
        if kind.drift is not None:
            out.print(f"{name}: {_drift(kind.drift)}", soft_wrap=True, highlight=False)
    header = ["", "in both", "median", "95 % within", "B against A", "τ", "only in A", "only in B"]
    print_table(
        "Differences of the p50, capability (gated)", header, [_row(name, kind) for name, kind in kinds.items()]
    )
    for name, kind in kinds.items():
        if shown := kind.common[:largest]:
            rows = [[e.name, milliseconds(e.first_ms), milliseconds(e.second_ms), _signed(e.relative)] for e in shown]
            print_table(f"Largest differences among {name}", ["", "A", "B", "difference"], rows)
    verdict = "agree" if agrees else "disagree"
    medians = [
        f"the median {name[:-1]} differs by {percent(kind.median)}" for name, kind in kinds.items() if kind.common
    ]
    out.print(f"The tables {verdict} within {within:g} %: {', '.join(medians)}.", soft_wrap=True, highlight=False)


def _drift(drift: float) -> str:
    if drift == 0:
        return "both were judged by the same fast state"
    return f"the fast state was {percent(abs(drift))} {'slower' if drift > 0 else 'faster'} for B, which is divided out"


def _row(name: str, kind: KindDifference) -> list[str]:
    counts = [str(len(names)) for names in (kind.only_first, kind.only_second)]
    tau = "–" if kind.kendall_tau is None else f"{kind.kendall_tau:.3f}"
    return [name, str(len(kind.common)), percent(kind.median), percent(kind.p95), _signed(kind.shift), tau, *counts]


def _signed(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:+.2f} %"


def _as_json(found: TableDifference, agrees: bool, within: float, largest: int) -> dict[str, Any]:
    """Differences are shares, as ``within`` is here."""

    def kind(difference: KindDifference) -> dict[str, Any]:
        return {
            "common": len(difference.common),
            "median": difference.median,
            "p95": difference.p95,
            "shift": difference.shift,
            "kendall_tau": difference.kendall_tau,
            "drift": difference.drift,
            "largest": [
                {"name": e.name, "first_ms": e.first_ms, "second_ms": e.second_ms, "relative": e.relative}
                for e in difference.common[:largest]
            ],
            "only_first": difference.only_first,
            "only_second": difference.only_second,
        }

    header = list(found.header)
    parts = {"blocks": kind(found.blocks), "networks": kind(found.networks)}
    return {"agrees": agrees, "within": within / 100, "differs": header, **parts}
