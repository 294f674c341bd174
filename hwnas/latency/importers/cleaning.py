"""Which published rows can be believed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from hwnas.latency.hygiene import RowNote
from hwnas.latency.importers.rows import Published, Row

MOST_VARIATION = 0.5
"""A standard deviation of more than this share of the mean is not a measurement of that row."""


def clean(
    rows: Sequence[Row], others: Mapping[str, Published], *, keep_copied: bool = False
) -> tuple[list[Row], list[RowNote], list[RowNote]]:
    """The rows to keep, what is said of those refused, and of those kept but marked.

    A row type of which one row has the mean and standard deviation of another device's is a copy, and is refused at
    every resolution: the other device may lack the resolution at which it would show.  With ``keep_copied`` it is
    marked only, for the device from which the others copied.
    """
    copied = _copied(rows, others)
    kept: list[Row] = []
    refused: list[tuple[Row, str]] = []
    marked: list[tuple[Row, str]] = []
    for row in rows:
        copy = copied.get(row.key.row_type)
        fault = _fault(row) or (None if keep_copied else copy)
        if fault:
            refused.append((row, fault))
            continue
        kept.append(row)
        if copy:
            marked.append((row, copy))
        if row.std_ms is None:
            marked.append((row, "no standard deviation is published"))
    return kept, notes(refused), notes(marked)


def notes(said: Iterable[tuple[Row, str]]) -> list[RowNote]:
    """What was said of rows, counted by row type and reason."""
    counts = Counter((row.key.row_type, reason) for row, reason in said)
    return [RowNote(row_type=row_type, rows=n, reason=reason) for (row_type, reason), n in counts.items()]


def _fault(row: Row) -> str | None:
    if not (math.isfinite(row.mean_ms) and row.mean_ms > 0):
        return "the mean is negative, zero or no number"
    if row.std_ms is not None and not (math.isfinite(row.std_ms) and row.std_ms >= 0):
        return "the standard deviation is negative or no number"
    if row.std_ms is not None and row.std_ms > MOST_VARIATION * row.mean_ms:
        return f"the standard deviation is over {MOST_VARIATION:.0%} of the mean"
    return None


def _copied(rows: Sequence[Row], others: Mapping[str, Published]) -> dict[str, str]:
    """The row types that other tables hold too, and where that is seen.  Without a spread nothing can be seen."""
    seen: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name, other in others.items():
        theirs = {(row.resolution, row.key): (row.mean_ms, row.std_ms) for row in other.rows}
        for row in rows:
            if row.std_ms and theirs.get((row.resolution, row.key)) == (row.mean_ms, row.std_ms):
                seen[row.key.row_type, name].add(row.resolution)
    return {
        row_type: f"mean and standard deviation are those of {name} at {', '.join(map(str, sorted(where)))} px"
        for (row_type, name), where in seen.items()
    }
