"""What must be known of a table's figures before they are believed or compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.cli.console import out, print_table

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable

RELATIVE = (
    "This table is relative: it lacks {absent}, which every architecture has, so that its latencies order the "
    "architectures of one resolution, and a budget in ms over it is no promise."
)

STALE = (
    "Latency table {path} was measured on another device than the target is now, as --allow-stale allows: it predicts "
    "that device's latencies, and a budget in ms over it is no promise for this one."
)

EMULATED = "The latency table is emulated: its times are an emulator's, and a budget in ms over it is no promise."


def statistic(table: LatencyTable) -> str:
    """Which figure of an entry stands for its time."""
    if table.kind == "imported":
        return "published mean, taken for the p50"
    return "p50, capability (gated)" if table.fast_states_ms else "p50 (ungated)"


def labels(table: LatencyTable) -> list[str]:
    """Kind, statistic, arrival and, of an imported table, what it lacks."""
    found = [table.kind, statistic(table), table.arrival]
    if table.hygiene is not None:
        refused, marked = (sum(note.rows for note in notes) for notes in (table.hygiene.refused, table.hygiene.marked))
        found.append(f"{refused} of {table.hygiene.rows} rows refused, {marked} marked")
    return [*found, "relative"] if table.relative else found


def print_hygiene(table: LatencyTable) -> None:
    """Of an imported table, what was refused of it and what marked."""
    hygiene = table.hygiene
    if hygiene is None:
        return
    for title, notes in (("Refused", hygiene.refused), ("Marked", hygiene.marked)):
        if notes:
            print_table(title, ["row type", "rows", "reason"], [[n.row_type, str(n.rows), n.reason] for n in notes])
    if table.relative:
        out.print(RELATIVE.format(absent=", ".join(hygiene.absent)), soft_wrap=True, highlight=False)
