"""The page of one latency table: its blocks as heat maps, how well its model predicts, how much its samples scatter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hwnas.files import write_atomic
from hwnas.report import figures, formats, tables
from hwnas.report.data import HeldOutNetwork, LatencyFigures
from hwnas.report.formats import ABSENT, NBSP, milliseconds, percent, spread
from hwnas.report.heatmap import heat_map
from hwnas.report.page import template
from hwnas.report.svg import Figure
from hwnas.report.table_data import EntryScatter, Judged, TableData
from hwnas.report.tables import Grid
from hwnas.report.verdict import Tile


def write_table_page(data: TableData, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    write_atomic(path, render_table(data))


def render_table(data: TableData) -> str:
    """The page as HTML text."""
    return template("latency_table.html").render(
        data=data,
        warnings=data.warnings,
        lead=_lead(data),
        tiles=_tiles(data),
        heats=[heat_map(heat, number) for number, heat in enumerate(data.heat_maps)],
        blocks=_blocks(data),
        agreement=_agreement(data),
        held_out=tables.predictors("On networks spread over the space", data.held_out.figures),
        proposed=tables.predictors("On networks that a search proposed", data.proposed.figures),
        networks=(
            tables.networks("Networks spread over the space", data.held_out.networks),
            tables.networks("Networks that a search proposed", data.proposed.networks),
        ),
        scatter=_scatter(data),
        hygiene=Grid(
            "Published rows",
            ("row type", "", "rows", "reason"),
            tuple((note.row_type, note.verdict, str(note.rows), note.reason) for note in data.hygiene),
        ),
        identity=formats.facts(data.identity),
        context=formats.facts(data.context),
        protocol=formats.facts(data.protocol),
    )


def _lead(data: TableData) -> str:
    measured = sum(line.std_ms is None for line in data.blocks)
    when = f"{data.created.day}{NBSP}{data.created:%b}{NBSP}{data.created.year}"
    took = f" in {formats.duration(data.seconds)}" if data.seconds else ""
    return (
        f"{data.kind.capitalize()}, {when}{took}: {measured} blocks of {len(data.blocks)} that the space has, at "
        f"{len(data.resolutions)} resolutions. Times are the {data.statistic}; runs arrive {data.arrival}."
    )


def _tiles(data: TableData) -> list[Tile]:
    """The figures that say at a glance how far the table is to be trusted."""
    found = []
    for label, judged in (("held-out networks", data.held_out), ("proposed by a search", data.proposed)):
        if judged.figures:
            model = judged.figures[0]
            within = formats.share(model.within_5_percent, model.within_5_interval)
            found.append(Tile(f"Mean error, {model.n} {label}", _mape(model), f"within ±5 %: {within}"))
    if data.held_out.figures:
        found.append(_coverage(data.held_out))
    for entry in data.scatter[:1]:
        if entry.between_builds is not None:
            note = f"95 % within {percent(entry.between_builds_p95)}"
            found.append(Tile(f"Between builds of {entry.name}", percent(entry.between_builds), note))
    return found


def _mape(model: LatencyFigures) -> str:
    return f"{formats.significant(model.mape_percent)}{NBSP}%"


def _coverage(judged: Judged) -> Tile:
    model = judged.figures[0]
    interval = model.coverage_95_interval
    note = "not stated" if interval is None else f"{percent(interval[0], 1)} to {percent(interval[1], 1)}"
    return Tile("Inside the 95 % interval", percent(model.coverage_95, 1), note)


def _agreement(data: TableData) -> Figure:
    groups = {
        "held-out network": [_network(n) for n in data.held_out.networks],
        "proposed by a search": [_network(n) for n in data.proposed.networks],
    }
    return figures.agreement(groups, last="that a search proposed")


def _network(n: HeldOutNetwork) -> figures.Network:
    return figures.Network(n.id, n.measured_ms, n.predicted_ms, n.std_ms)


def _scatter(data: TableData) -> Grid:
    quantities: tuple[tuple[str, Callable[[EntryScatter], str]], ...] = (
        ("measured", lambda e: str(e.entries)),
        ("builds of most", lambda e: str(e.builds)),
        ("standard deviation between builds, median", lambda e: percent(e.between_builds)),
        ("95 % of them within", lambda e: percent(e.between_builds_p95)),
        ("deviation within a build (MAD), median", lambda e: percent(e.within)),
        ("samples in the fast state", lambda e: str(e.samples)),
        ("outliers among them, marked and kept", lambda e: f"{e.outliers} ({percent(e.outliers / e.samples)})"),
        ("as it ran (ungated), slower by", lambda e: percent(e.ungated)),
    )
    return tables.beside("Spread and outliers", [(entry.name, entry) for entry in data.scatter], quantities)


def _blocks(data: TableData) -> Grid:
    rows = tuple(
        (
            line.key,
            spread(line.ms, line.std_ms),
            "measured" if line.std_ms is None else "interpolated",
            milliseconds(line.p90_ms),
            percent(line.between_builds),
            f"{line.outliers} of {line.samples}" if line.samples else ABSENT,
        )
        for line in data.blocks
    )
    return Grid("Blocks", ("block", "p50", "", "p90", "between builds", "outliers"), rows)
