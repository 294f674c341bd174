"""``hwnas tables import``: published tables of other devices, after a critical look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, command, out, print_json
from hwnas.cli.labels import print_hygiene

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable


@command
def import_table(
    published: Annotated[str, typer.Argument(metavar="FORMAT", help="ofa or proxyless.")],
    path: Annotated[
        Path, typer.Argument(help="ofa: a device's directory of <resolution>.json; proxyless: a YAML file.")
    ],
    target: Annotated[str, typer.Option(help="The device's name from now on.")],
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another device's table in which copies are looked for; default: those beside PATH."),
    ] = None,
    keep_copied: Annotated[
        bool, typer.Option("--keep-copied", help="Mark copied rows instead of refusing them: this is the original.")
    ] = False,
    tables: Annotated[Path, typer.Option(help="Directory of all latency tables.")] = Path("latency_tables"),
    json: JsonOption = False,
) -> None:
    """Import a published latency table; what cannot be believed is refused, and the table says so."""
    from hwnas.errors import UserError
    from hwnas.latency import save_table
    from hwnas.latency.importers import get_format
    from hwnas.latency.importers import import_table as imported
    from hwnas.spaces import get_space

    if not target or not all(c.isascii() and (c.isalnum() or c in "._-") for c in target) or target[0] in ".-":
        raise UserError(f"'{target}' is no name for a target; use letters, digits, '.', '_' and '-'.")
    table = imported(
        get_format(published), path, target, get_space(space), tuple(against or ()), keep_copied=keep_copied
    )
    saved = save_table(table, tables)
    if json:
        hygiene = table.hygiene.model_dump(mode="json") if table.hygiene else None
        print_json({"path": str(saved), "kind": table.kind, "blocks": len(table.blocks), "hygiene": hygiene})
        return
    _print(saved, table)


def _print(path: Path, table: LatencyTable) -> None:
    hygiene = table.hygiene
    assert hygiene is not None, "an imported table has one"
    out.print(f"[bold]{path}[/]", soft_wrap=True, highlight=False)
    refused = sum(note.rows for note in hygiene.refused)
    compared = (
        f"compared with {', '.join(hygiene.compared_with)}" if hygiene.compared_with else "compared with no other"
    )
    out.print(
        f"{hygiene.rows} rows, {compared}: {refused} refused; {len(table.blocks)} blocks imported, "
        f"{table.missing.blocks} to be interpolated at these resolutions",
        soft_wrap=True,
        highlight=False,
    )
    print_hygiene(table)
