"""``hwnas tables``: the latency tables that are there, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json, print_table, readable
from hwnas.cli.figures import print_figures
from hwnas.cli.tables_diff import diff
from hwnas.cli.tables_import import import_table
from hwnas.cli.tables_validate import validate

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

app = typer.Typer(help="List and show latency tables.", no_args_is_help=True)
app.command("diff")(diff)
app.command("import")(import_table)
app.command("validate")(validate)


@app.command("list")
@command
def list_tables(
    tables: Annotated[Path, typer.Option(help="Directory of all latency tables.")] = Path("latency_tables"),
    json: JsonOption = False,
) -> None:
    """List the latency tables."""
    from hwnas.latency import load_table

    found = {path: load_table(path) for path in sorted(tables.glob("*/*.json"))}
    if json:
        print_json([_brief(path, table) for path, table in found.items()])
        return
    if not found:
        out.print(f"There are no latency tables in {tables}; make one with `hwnas profile`.")
        return
    for path, table in found.items():
        out.print(f"[bold]{path}[/]", soft_wrap=True, highlight=False)
        known = f"{table.created}, {len(table.blocks)} blocks, {len(table.networks)} networks"
        figures = table.validation
        quality = f"MAPE {figures.mape:.2f} % on {figures.n} held-out networks" if figures else "not validated"
        out.print(f"  {known}; {quality}", soft_wrap=True, highlight=False)


@app.command("show")
@command
def show(path: Annotated[Path, typer.Argument(help="A table's file.")], json: JsonOption = False) -> None:
    """Show one table: where and how it was measured, and its held-out figures."""
    from hwnas.devices.fingerprint import flattened
    from hwnas.latency import load_table

    table = load_table(path)
    if json:
        print_json(table.model_dump(mode="json", by_alias=True))
        return
    out.print(f"[bold]{path}[/]", soft_wrap=True)
    identity = [[name, readable(value)] for name, value in flattened(table.fingerprint.identity).items()]
    missing = table.missing
    facts = [
        ["target", table.target],
        ["space", f"{table.space}, {table.num_classes} classes"],
        ["runtime", f"{table.runtime}-{table.mode}, {table.precision}, batch {table.batch}, {table.threads} thread(s)"],
        ["measured", f"{table.created}, {table.profile_seconds:.0f} s"],
        ["resolutions", ", ".join(map(str, table.resolutions))],
        ["blocks", f"{len(table.blocks)} measured, {missing.blocks} missing"],
        ["networks", f"{len(table.networks)} measured, {missing.calibration + missing.validation} missing"],
        *identity,
    ]
    print_table("Latency table", ["", "value"], facts)
    print_figures(table)


def _brief(path: Path, table: LatencyTable) -> dict[str, object]:
    brief = table.model_dump(mode="json", by_alias=True, exclude={"blocks", "networks", "protocol", "fingerprint"})
    return {"path": str(path), "identity8": table.fingerprint.identity8, **brief}
