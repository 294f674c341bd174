"""Tables measured elsewhere: out of the file of an acceptance script, after a look at whether they can be believed."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from pathlib import Path

from hwnas.errors import BadFileError, UserError
from hwnas.files import read_model
from hwnas.latency.crosscheck import LIMIT
from hwnas.latency.hygiene import Hygiene, RowNote
from hwnas.latency.results import AcceptanceResults
from hwnas.latency.store import TableKey, check_table, mode_of, table_path
from hwnas.latency.table import LatencyTable
from hwnas.latency.validation import validated
from hwnas.spaces import get_space

RESULTS = "results"
"""What this format is called beside those of published tables."""
_CROSS_CHECKED = "tensorrt"
_NETWORKS_AT_LEAST = 20
_WORST_MAPE = 10.0


def import_results(path: Path, root: Path, *, target: str | None = None) -> tuple[LatencyTable, ...]:
    """The tables of a results file, each with a note of where it is from and figures by today's model.

    Args:
        path: the file.
        root: the directory of all tables, in which none of these may lie yet.
        target: what the device is called from now on; ``None``: as in the file.

    Raises:
        BadFileError: the file is missing or wrong, or a table in it contradicts itself.
        UserError: it is of a dry run, its cross-check against trtexec failed or is missing, its tables do not predict
            their own held-out networks, or a table of that device is there already.
    """
    results = read_model(path, AcceptanceResults, what="results file")
    if results.dry_run is not None:
        raise UserError(f"Results {path} are no measurement: {results.dry_run}")
    if not results.tables:
        raise UserError(f"Results {path} hold no latency table; run the script to its end.")
    _require_cross_checks(results, path)
    return tuple(_believed(table, results, path, root, target) for table in results.tables)


def _require_cross_checks(results: AcceptanceResults, path: Path) -> None:
    if any(table.runtime == _CROSS_CHECKED for table in results.tables) and not results.cross_checks:
        raise UserError(
            f"Results {path} have TensorRT's times and no cross-check against trtexec; run it with trtexec."
        )
    for check in results.cross_checks:
        if not check.agrees:
            raise UserError(
                f"Results {path}: our p50 of {check.model} differs from trtexec's by {100 * check.difference:+.1f} %, "
                f"where {100 * LIMIT:g} % are allowed; let the device rest, lock its clocks and measure again."
            )


def _believed(
    table: LatencyTable, results: AcceptanceResults, path: Path, root: Path, target: str | None
) -> LatencyTable:
    check_table(table, path)
    _require_consistent(table, results, path)
    space = get_space(table.space, table.num_classes)
    rows = len(table.blocks) + len(table.networks)
    told = f"measured elsewhere with hwnas {results.hwnas} by {results.script}, imported on {datetime.date.today()}"
    note = RowNote(row_type="all", rows=rows, reason=told)
    named = table.model_copy(update={"target": target or table.target, "hygiene": Hygiene(rows=rows, marked=(note,))})
    found = validated(named, space)
    if found.validation is None or found.validation.n < _NETWORKS_AT_LEAST:
        raise UserError(
            f"Results {path}: the table of {table.space} has fewer than {_NETWORKS_AT_LEAST} held-out networks, by "
            "which it could be judged; profile for longer."
        )
    if not found.validation.mape <= _WORST_MAPE:
        raise UserError(
            f"Results {path}: the table of {table.space} predicts its own held-out networks with an error of "
            f"{found.validation.mape:.1f} %, where {_WORST_MAPE:g} % are allowed; measure again on a device at rest."
        )
    place = table_path(root, TableKey.of_table(found))
    if place.exists():
        raise UserError(f"There is a table of this very device already, {place}; move it away to import another.")
    return found


def _require_consistent(table: LatencyTable, results: AcceptanceResults, path: Path) -> None:
    """What a table says of itself in several places must be the same."""
    runtime = table.fingerprint.identity.get("runtime", {})
    problems = [
        (table.kind != "measured", f"it is {table.kind}, and not measured"),
        (table.target != results.target, f"it is of target {table.target}, the file of {results.target}"),
        (runtime.get("name") != table.runtime, f"its fingerprint is of runtime {runtime.get('name')}"),
        (mode_of(runtime.get("provider")) != table.mode, f"its fingerprint is of provider {runtime.get('provider')}"),
        (runtime.get("threads") != table.threads, f"its fingerprint is of {runtime.get('threads')} threads"),
        (not table.fast_states_ms, "it was measured without gate"),
        (
            table.profile_seconds < _least_seconds(table),
            "its samples take longer than the time that it took to measure",
        ),
        (bool(table.hygiene), "it was imported before"),
    ]
    for wrong, sentence in problems:
        if wrong:
            raise BadFileError(f"results file {path}: the table of {table.space} ({table.runtime}): {sentence}.")


def _least_seconds(table: LatencyTable) -> float:
    """All samples one after the other."""
    entries: Sequence[float] = [entry.ungated_n * entry.ungated_median_ms for entry in (*table.blocks, *table.networks)]
    return math.fsum(entries) / 1e3 / 2  # the median of a skewed distribution says no more
