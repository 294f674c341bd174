"""How well a table's model predicts, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.cli.console import out, percent, print_table, share
from hwnas.cli.labels import EMULATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hwnas.latency import Figures, LatencyTable
    from hwnas.latency.figures import ValidationFigures

NAMES = {"block_sum": "sum of blocks", "macs": "MACs alone"}


def print_figures(table: LatencyTable) -> None:
    """How well the table's model, and simpler ones, predict its held-out networks."""
    if table.kind == "emulated":
        out.print(EMULATED, soft_wrap=True)
    if table.validation is None:
        out.print("No network was held out, so nothing is known of how well this table predicts.")
    else:
        date = f", measured anew on {table.revalidation.date}" if table.revalidation else ""
        _print(f"{table.validation.n} held-out networks, p50, capability (gated){date}", table.validation)
    if table.proposed is not None:
        _print(f"{table.proposed.n} networks proposed by a search, likewise", table.proposed)


def print_boards(table: LatencyTable) -> None:
    """Which boards measured the table together, if they were several."""
    if not table.boards:
        return
    rows = [
        [
            board.name or "this machine",
            "–" if board.factor is None else f"{100 * (board.factor - 1):+.2f} %",
            "–" if board.spread is None else f"± {100 * board.spread:.2f} %",
            str(board.blocks),
            str(board.networks),
            board.left or "",
        ]
        for board in table.boards
    ]
    spread = f"; boards of the kind differ by {percent(table.board_spread)}" if table.board_spread else ""
    header = ["board", "its times", "", "builds of blocks", "of networks", "left, because"]
    print_table(f"Boards and their mean{spread}", header, rows)


def _print(title: str, found: ValidationFigures) -> None:
    predictors: dict[str, Figures] = {"latency model": found}
    if found.interpolated is not None:
        predictors[f"  interpolated, {found.interpolated.n}"] = found.interpolated
    predictors |= {NAMES.get(name, name): figures for name, figures in found.baselines.items()}
    header = ["predictor", "MAPE", "within 5 %", "within 10 %", "in 95 %", "Kendall τ"]
    print_table(title, header, _rows(predictors))


def _rows(predictors: Mapping[str, Figures]) -> list[list[str]]:
    return [
        [
            name,
            f"{f.mape:.2f} %",
            share(f.within_5pct, f.within_5pct_interval),
            share(f.within_10pct, f.within_10pct_interval),
            share(f.coverage_95, f.coverage_95_interval),
            "–" if f.kendall_tau is None else f"{f.kendall_tau:.3f}",
        ]
        for name, f in predictors.items()
    ]
