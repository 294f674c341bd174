"""``hwnas tables validate``: how well a table predicts the live device today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, out, percent, print_json
from hwnas.cli.figures import print_figures

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable


@command
def validate(
    path: Annotated[Path, typer.Argument(metavar="TABLE", help="A table's file.")],
    networks: Annotated[
        int | None,
        typer.Option(help="Held-out networks to draw and measure; default: as many as a profile; 0: keep those there."),
    ] = None,
    proposed: Annotated[
        int, typer.Option(help="Networks that a search proposes, to measure beside them; 0: keep those there.")
    ] = 50,  # as hwnas.pipeline.validation.PROPOSED, which is not imported before a command runs
    seed: Annotated[int, typer.Option(min=0, help="Of the networks drawn and proposed.")] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an interrupted validation measured.")] = False,
    allow_stale: Annotated[
        bool, typer.Option(help="Measure on another device than the table's; the table then stays as it is.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure networks that no fit has seen, and write the table with them and the figures of its model.

    Those drawn are spread evenly over latency; those proposed are the largest that the model believes to keep budgets,
    where models fail, and are reported apart. Killed or interrupted, the same command goes on where it stopped.
    """
    from hwnas.devices import load_target, open_device
    from hwnas.latency import load_table
    from hwnas.latency.revalidation import RevalidationOptions
    from hwnas.pipeline.validation import validate_table

    options = RevalidationOptions(networks=networks, seed=seed, fresh=fresh, allow_stale=allow_stale)
    with open_device(load_target(load_table(path).target)) as device, bars() as progress:
        found = validate_table(device, path, options, proposed, progress)
    table = found.table
    if json:
        print_json(
            {
                "table": str(path),
                "written": found.written,
                "validation": table.validation.model_dump(mode="json") if table.validation else None,
                "proposed": table.proposed.model_dump(mode="json") if table.proposed else None,
                "revalidation": table.revalidation.model_dump(mode="json") if table.revalidation else None,
                "missing": table.missing.model_dump(mode="json"),
            }
        )
        return
    print_figures(table)
    _print_states(table, found.written)
    outcome = "holds them now" if found.written else "is of another device and was left as it is"
    out.print(f"[bold]{path}[/] {outcome}.", soft_wrap=True, highlight=False)


def _print_states(table: LatencyTable, written: bool) -> None:
    """How the device differs from when the table was measured."""
    now = table.revalidation.fast_states_ms if table.revalidation and written else {}
    for canary, state_ms in now.items():
        if canary in table.fast_states_ms:
            drift = state_ms / table.fast_states_ms[canary] - 1
            slower = "slower" if drift > 0 else "faster"
            out.print(
                f"The fast state ({canary} canary) was {percent(abs(drift))} {slower} than the table's, which is "
                "divided out.",
                soft_wrap=True,
                highlight=False,
            )
