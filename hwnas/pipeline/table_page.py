"""From a latency table to what its page shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from hwnas.errors import UserError
from hwnas.latency import Figures, LatencyModel, LatencyTable, fit_latency_model
from hwnas.latency.base import BlockTimes
from hwnas.latency.overview import BlockMap, block_maps, known_times, scatter
from hwnas.latency.table import BoardEntry, Role, genomes_of
from hwnas.latency.validation import validate
from hwnas.pipeline.judged_model import held_out_networks, latency_figures
from hwnas.report.table_data import BlockLine, EntryScatter, HeatCell, HeatMap, HeatRow, Judged, RowNote, TableData
from hwnas.spaces import Space, get_space

PREDICTORS = {"block_sum": "sum of blocks", "macs": "MACs alone"}


def table_data(path: Path, table: LatencyTable, statistic: str) -> TableData:
    """What the page of the table in ``path`` shows; ``statistic`` is which figure stands for an entry's time."""
    space = get_space(table.space, table.num_classes)
    times = known_times(table, space)
    maps = block_maps(space, times) if table.blocks else ()
    missing = table.missing
    try:
        model = fit_latency_model(table, space)
    except UserError:  # too few blocks or networks: the page then shows what there is
        model = None
    return TableData(
        name=path.name,
        target=table.target,
        space=table.space,
        kind=table.kind,
        created=table.created,
        seconds=table.profile_seconds,
        statistic=statistic,
        arrival=table.arrival,
        resolutions=table.resolutions,
        blocks_missing=missing.blocks,
        networks_missing=missing.calibration + missing.validation + missing.proposed,
        warnings=tuple(_warnings(table)),
        facts=tuple(_facts(table)),
        heat_maps=tuple(_heat_map(each, table.resolutions[len(table.resolutions) // 2]) for each in maps),
        scatter=tuple(
            EntryScatter(name=name, **asdict(scatter(entries)))
            for name, entries in (("blocks", table.blocks), ("networks", table.networks))
            if entries
        ),
        held_out=_judged(table, space, model, "validation"),
        proposed=_judged(table, space, model, "proposed"),
        hygiene=tuple(_notes(table)),
        blocks=tuple(_lines(table, space, times)),
        identity=table.fingerprint.identity,
        context=table.fingerprint.context,
        protocol=table.protocol,
    )


def _warnings(table: LatencyTable) -> Iterable[str]:
    if table.hygiene is not None and table.relative:
        yield (
            f"This table is relative: it lacks {', '.join(table.hygiene.absent)}, which every architecture has, so "
            "that its latencies order the architectures of one resolution and are no latencies."
        )
    if table.kind == "measured" and not table.fast_states_ms:
        yield "Nothing gated these measurements: what else the device did is in them."
    if not table.with_role("validation"):
        yield "No network was held out, so nothing is known of how well this table predicts."


def _facts(table: LatencyTable) -> Iterable[tuple[str, str]]:
    yield "runtime", f"{table.runtime}, {table.mode}, {table.precision}"
    yield "batch, threads", f"{table.batch}, {table.threads}"
    yield "arrival", table.arrival
    yield "resolutions measured", ", ".join(map(str, table.resolutions))
    for canary, state_ms in table.fast_states_ms.items():
        yield f"fast state, {canary} canary", f"{state_ms:.4g} ms"
    roles: tuple[Role, ...] = ("calibration", "validation", "proposed")
    yield "networks", ", ".join(f"{len(table.with_role(role))} {role}" for role in roles)
    if table.boards:
        yield "boards, and their times over the table's", "; ".join(map(_board, table.boards))
    if table.board_spread:
        yield "spread between boards", f"{100 * table.board_spread:.2g} %"
    if table.revalidation is not None:
        yield "validated anew", f"{table.revalidation.date}, in {table.revalidation.seconds:.0f} s"


def _board(board: BoardEntry) -> str:
    told = "" if board.factor is None else f" {100 * (board.factor - 1):+.1f} %"
    left = "" if board.left is None else f" (left: {board.left})"
    return f"{board.name or 'this machine'}{told}{left}"


def _heat_map(found: BlockMap, shown: int) -> HeatMap:
    return HeatMap(
        choices=found.choices,
        columns=found.columns,
        resolutions=found.resolutions,
        shown=shown,
        rows=tuple(
            HeatRow(
                label=label,
                cells=tuple(
                    tuple(_cell(found, (i, j, k)) for k in range(len(found.resolutions)))
                    for j in range(len(found.columns))
                ),
            )
            for i, label in enumerate(found.labels)
        ),
    )


def _cell(found: BlockMap, at: tuple[int, int, int]) -> HeatCell | None:
    ms = float(found.ms[at])
    if math.isnan(ms):
        return None
    return HeatCell(ms=ms, std_ms=None if found.measured[at] else float(found.std_ms[at]))


def _judged(table: LatencyTable, space: Space, model: LatencyModel | None, role: Role) -> Judged:
    """The networks of a role by today's model, and its figures."""
    entries = table.with_role(role)
    if model is None or not entries:
        return Judged()
    mean, std = model.predict(genomes_of(space, entries))
    found = validate(table, space, role)
    predictors: dict[str, Figures] = {} if found is None else {"latency model": found}
    if found is not None and found.interpolated is not None:
        predictors["of these, with interpolated blocks"] = found.interpolated
    if found is not None:
        predictors |= {PREDICTORS.get(name, name): figures for name, figures in found.baselines.items()}
    return Judged(
        networks=held_out_networks(entries, (entry.median_ms for entry in entries), mean, std),
        figures=tuple(latency_figures(name, figures) for name, figures in predictors.items()),
    )


def _notes(table: LatencyTable) -> Iterable[RowNote]:
    if table.hygiene is not None:
        for note in table.hygiene.refused:
            yield RowNote(verdict="refused", row_type=note.row_type, rows=note.rows, reason=note.reason)
        for note in table.hygiene.marked:
            yield RowNote(verdict="marked", row_type=note.row_type, rows=note.rows, reason=note.reason)


def _lines(table: LatencyTable, space: Space, times: BlockTimes) -> Iterable[BlockLine]:
    """A line for each block of the space of which something is known, in the space's order."""
    entries = {entry.block: entry for entry in table.blocks}
    for block, ms, std_ms in zip(space.distinct_blocks, times.ms.tolist(), times.std_ms.tolist(), strict=True):
        entry = entries.get(block)
        if entry is not None:
            medians = np.array(entry.build_medians_ms)
            yield BlockLine(
                key=block.key,
                ms=entry.median_ms,
                p90_ms=entry.p90_ms,
                builds=entry.builds,
                between_builds=float(medians.std(ddof=1) / medians.mean()) if entry.builds > 1 else None,
                samples=entry.n,
                outliers=entry.outliers,
            )
        elif not math.isnan(ms):
            yield BlockLine(key=block.key, ms=ms, std_ms=std_ms)
