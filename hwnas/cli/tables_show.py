"""``hwnas tables show``: one latency table, for people, for machines, and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.conditions import print_conditions
from hwnas.cli.console import JsonOption, command, out, percent, print_json, print_table, readable
from hwnas.cli.figures import print_boards, print_figures
from hwnas.cli.labels import labels, print_hygiene, statistic

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable


@command
def show(
    path: Annotated[Path, typer.Argument(help="A table's file.")],
    resolution: Annotated[
        int | None, typer.Option(help="Pixels at which blocks are drawn; default: the middle one measured.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the table as a self-contained page, too.")] = None,
    json: JsonOption = False,
) -> None:
    """Show one table: where and how it was measured, its blocks as a picture, and its held-out figures."""
    from hwnas.errors import UserError
    from hwnas.latency import load_table
    from hwnas.spaces import get_space

    table = load_table(path)
    space = get_space(table.space, table.num_classes)
    if resolution is not None and resolution not in space.resolutions:
        known = ", ".join(map(str, space.resolutions))
        raise UserError(f"Space {space.name} has no {resolution} px; it has {known}.")
    if html is not None:
        _write_page(table, path, html)
    if json:
        print_json(table.model_dump(mode="json", by_alias=True))
    else:
        out.print(f"[bold]{path}[/]", soft_wrap=True)
        _print_facts(table)
        print_conditions(table)
        print_boards(table)
        _print_scatter(table)
        print_hygiene(table)
        _print_picture(table, resolution or table.resolutions[len(table.resolutions) // 2])
        print_figures(table)
        if html is not None:
            out.print(f"As a page: [bold]{html}[/]", soft_wrap=True, highlight=False)


def _write_page(table: LatencyTable, path: Path, page: Path) -> None:
    from hwnas.pipeline.table_page import table_data
    from hwnas.report.table_page import write_table_page

    write_table_page(table_data(path, table, statistic(table)), page)


def _print_facts(table: LatencyTable) -> None:
    from hwnas.devices.fingerprint import flattened

    identity = [[name, readable(value)] for name, value in flattened(table.fingerprint.identity).items()]
    missing = table.missing
    lost = missing.calibration + missing.validation + missing.proposed
    roles = {role: len(table.with_role(role)) for role in ("calibration", "validation", "proposed")}
    facts = [
        ["target", table.target],
        ["space", f"{table.space}, {table.num_classes} classes"],
        ["runtime", f"{table.runtime}-{table.mode}, {table.precision}, batch {table.batch}, {table.threads} thread(s)"],
        ["figures", ", ".join(labels(table))],
        ["measured", f"{table.created}, {table.profile_seconds:.0f} s"],
        ["resolutions", ", ".join(map(str, table.resolutions))],
        ["blocks", f"{len(table.blocks)} measured, {missing.blocks} missing"],
        ["networks", ", ".join(f"{n} {role}" for role, n in roles.items()) + f", {lost} missing"],
        *identity,
    ]
    print_table("Latency table", ["", "value"], facts)


def _print_scatter(table: LatencyTable) -> None:
    from hwnas.latency.overview import scatter

    entries = {"blocks": table.blocks, "networks": table.networks}
    found = {name: scatter(them) for name, them in entries.items() if them}
    rows = [
        [
            name,
            str(s.builds),
            percent(s.between_builds),
            percent(s.between_builds_p95),
            percent(s.within),
            percent(s.outliers / s.samples),
            percent(s.ungated),
        ]
        for name, s in found.items()
    ]
    header = ["", "builds", "median", "95 % within", "MAD", "outliers", "ungated +"]
    print_table("Spread between builds, deviation within them, outliers (marked and kept)", header, rows)


def _print_picture(table: LatencyTable, resolution: int) -> None:
    from hwnas.cli.picture import picture
    from hwnas.latency.overview import block_maps, known_times
    from hwnas.spaces import get_space

    if not table.blocks:
        out.print("No block was measured alone, so there is nothing to draw.")
        return
    space = get_space(table.space, table.num_classes)
    maps = block_maps(space, known_times(table, space))
    for line in picture(maps, resolution, statistic(table)):
        out.print(line, soft_wrap=True)
    out.print()
