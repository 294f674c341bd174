"""``hwnas tables``: the latency tables that are there, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json
from hwnas.cli.labels import labels
from hwnas.cli.tables_diff import diff
from hwnas.cli.tables_import import import_table
from hwnas.cli.tables_show import show
from hwnas.cli.tables_validate import validate

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

app = typer.Typer(help="List, show, compare, validate and import latency tables.", no_args_is_help=True)
app.command("diff")(diff)
app.command("import")(import_table)
app.command("show")(show)
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
        for line in (", ".join(labels(table)), f"{known}; {_quality(table)}"):
            out.print(f"  {line}", soft_wrap=True, highlight=False)


def _quality(table: LatencyTable) -> str:
    found = {"held-out networks": table.validation, "proposed by a search": table.proposed}
    known = [f"MAPE {figures.mape:.2f} % on {figures.n} {which}" for which, figures in found.items() if figures]
    return ", ".join(known) or "not validated"


def _brief(path: Path, table: LatencyTable) -> dict[str, object]:
    brief = table.model_dump(mode="json", by_alias=True, exclude={"blocks", "networks", "protocol", "fingerprint"})
    return {"path": str(path), "identity8": table.fingerprint.identity8, **brief}
