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
    published: Annotated[str, typer.Argument(metavar="FORMAT", help="ofa, proxyless, results, or profile.")],
    path: Annotated[
        Path,
        typer.Argument(
            help="ofa: a device's directory of <resolution>.json; proxyless: a YAML file; results: the JSON of an "
            "acceptance script that somebody ran on a device of theirs; profile: what the agent measured by a plan."
        ),
    ],
    target: Annotated[
        str | None, typer.Option(help="The device's name from now on; results, profile: default is the file's.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Search space, FAMILY/PRESET; results, profile: the file says it.")
    ] = None,
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
    """Import a published latency table, or those of a results file; what cannot be believed is refused."""
    from hwnas.errors import UserError
    from hwnas.latency import save_table
    from hwnas.latency.errand import ERRAND, import_errand
    from hwnas.latency.importers import RESULTS, get_format, import_results
    from hwnas.latency.importers import import_table as imported
    from hwnas.spaces import get_space

    if target is not None and not _is_name(target):
        raise UserError(f"'{target}' is no name for a target; use letters, digits, '.', '_' and '-'.")
    if published in (RESULTS, ERRAND):
        if space or against or keep_copied:
            raise UserError("A results file says its space, and is compared with no other table; leave these options.")
        found = (import_results if published == RESULTS else import_errand)(path, tables, target=target)
    elif target is None or space is None:
        raise UserError(
            f"Published tables of format {published} say neither device nor space; give --target and --space."
        )
    else:
        published_format = get_format(published)
        table = imported(
            published_format, path, target, get_space(space), tuple(against or ()), keep_copied=keep_copied
        )
        found = (table,)
    saved = [(save_table(table, tables), table) for table in found]
    if json:
        records = [_record(place, table) for place, table in saved]
        print_json(records if published == RESULTS else records[0])
        return
    for place, table in saved:
        _print(place, table)


def _is_name(target: str) -> bool:
    allowed = all(c.isascii() and (c.isalnum() or c in "._-") for c in target)
    return bool(target) and allowed and target[0] not in ".-"


def _record(path: Path, table: LatencyTable) -> dict[str, object]:
    hygiene = table.hygiene.model_dump(mode="json") if table.hygiene else None
    return {"path": str(path), "kind": table.kind, "blocks": len(table.blocks), "hygiene": hygiene}


def _print(path: Path, table: LatencyTable) -> None:
    hygiene = table.hygiene
    assert hygiene is not None, "an imported table has one"
    out.print(f"[bold]{path}[/]", soft_wrap=True, highlight=False)
    if table.kind == "measured":
        out.print(f"{len(table.blocks)} blocks and {len(table.networks)} networks, measured elsewhere", highlight=False)
        print_hygiene(table)
        return
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
