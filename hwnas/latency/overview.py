"""What a latency table looks like as a whole: its blocks as a map, and how much its measurements scatter."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.errors import UserError
from hwnas.latency.base import BlockTimes, Floats
from hwnas.latency.blocks import absent_blocks, block_times
from hwnas.latency.table import LatencyTable, Timing
from hwnas.spaces import BlockSpec, Space
from hwnas.spaces.space import Slot


@dataclass(frozen=True, slots=True)
class BlockMap:
    """Places of a network that have the same choices: a row each, a column for each combination of their values.

    Arrays are [rows, columns, resolutions]; NaN where nothing is known.
    """

    choices: tuple[str, ...]
    """What is chosen, such as ``kernel`` and ``expansion``; nothing at the places that every architecture has."""
    columns: tuple[tuple[int, ...], ...]
    """A value of each of the choices."""
    resolutions: tuple[int, ...]
    labels: tuple[str, ...]
    """Of each row; places with the same blocks share one: ``stage1.block2–4``."""
    ms: Floats
    std_ms: Floats
    """0 where the block was measured."""
    measured: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scatter:
    """How much the measurements of a table's blocks, or networks, scatter.  Spreads are shares of an entry's time."""

    entries: int
    samples: int
    """In the device's fast state, of all entries together."""
    builds: int
    """Of most entries."""
    between_builds: float | None
    """Standard deviation between the builds of an entry, the median; ``None`` where none has two."""
    between_builds_p95: float | None
    within: float
    """Median absolute deviation of an entry's samples, the median."""
    outliers: int
    """Samples far from their build's median; they are kept."""
    ungated: float
    """How much slower the ungated median is than the gated one, the median."""


def known_times(table: LatencyTable, space: Space) -> BlockTimes:
    """Of each block, measured or interpolated; NaN where it is neither, where others raise an error."""
    try:
        times = block_times(table, space)
    except UserError:  # too few to interpolate between
        known = {entry.block: entry.median_ms for entry in table.blocks}
        ms = np.array([known.get(block, np.nan) for block in space.distinct_blocks])
        return BlockTimes(ms, np.zeros(len(ms)), ~np.isnan(ms))
    absent = absent_blocks(table, space)
    ms = np.array([np.nan if b in absent else ms for b, ms in zip(space.distinct_blocks, times.ms, strict=True)])
    return BlockTimes(ms, times.std_ms, times.measured, times.relative)


def block_maps(space: Space, times: BlockTimes) -> tuple[BlockMap, ...]:
    """The blocks of a space by place, those with the most choices first."""
    index = {block: number for number, block in enumerate(space.distinct_blocks)}
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[tuple[str, npt.NDArray[np.intp]]]] = {}
    for slot in space.slots:
        choices = [(label.rpartition(".")[2], _values(space, label)) for label in slot.choices if label != "resolution"]
        groups.setdefault(tuple(choices), []).append((slot.label, _indices(space, slot, index)))
    ordered = sorted(groups.items(), key=lambda group: -len(group[0]))
    return tuple(_block_map(choices, rows, space, times) for choices, rows in ordered)


def scatter(entries: Sequence[Timing]) -> Scatter:
    """Of some blocks or networks, one at least."""
    builds = np.array([entry.builds for entry in entries])
    medians = [np.array(entry.build_medians_ms) for entry in entries if entry.builds > 1]
    between = [float(ms.std(ddof=1) / ms.mean()) for ms in medians]
    return Scatter(
        entries=len(entries),
        samples=sum(entry.n for entry in entries),
        builds=int(np.bincount(builds).argmax()),
        between_builds=float(np.median(between)) if between else None,
        between_builds_p95=float(np.quantile(between, 0.95, method="inverted_cdf")) if between else None,
        within=float(np.median([entry.mad_ms / entry.median_ms for entry in entries])),
        outliers=sum(entry.outliers for entry in entries),
        ungated=float(np.median([entry.ungated_median_ms / entry.median_ms for entry in entries])) - 1,
    )


def _values(space: Space, label: str) -> tuple[int, ...]:
    return space.choices[space.position(label)].values


def _indices(space: Space, slot: Slot, index: dict[BlockSpec, int]) -> npt.NDArray[np.intp]:
    """Which block stands there, [columns, resolutions], -1 for none."""
    options = [_values(space, label) for label in slot.choices]
    resolution = slot.choices.index("resolution")
    combinations = list(itertools.product(*(values for j, values in enumerate(options) if j != resolution)))
    found = np.full((len(combinations), len(space.resolutions)), -1)
    for column, values in enumerate(combinations):
        for number, pixels in enumerate(space.resolutions):
            block = slot.build(*values[:resolution], pixels, *values[resolution:])
            if block is not None:
                found[column, number] = index[block]
    return found


def _block_map(
    choices: tuple[tuple[str, tuple[int, ...]], ...],
    rows: Sequence[tuple[str, npt.NDArray[np.intp]]],
    space: Space,
    times: BlockTimes,
) -> BlockMap:
    labels, indices = [], []
    for key, same in itertools.groupby(rows, key=lambda row: row[1].tobytes()):
        places = list(same)
        labels.append(_joined([label for label, _ in places]))
        indices.append(np.frombuffer(key, places[0][1].dtype).reshape(places[0][1].shape))
    at = np.stack(indices)
    return BlockMap(
        choices=tuple(name for name, _ in choices),
        columns=tuple(itertools.product(*(values for _, values in choices))),
        resolutions=space.resolutions,
        labels=tuple(labels),
        ms=np.append(times.ms, np.nan)[at],
        std_ms=np.append(times.std_ms, 0.0)[at],
        measured=np.append(times.measured, False)[at],
    )


def _joined(labels: Sequence[str]) -> str:
    """``stage1.block2`` to ``stage1.block4`` as ``stage1.block2–4``."""
    if len(labels) == 1:
        return labels[0]
    first, last = (re.fullmatch(r"(.*?)(\d*)", label) for label in (labels[0], labels[-1]))
    same = first is not None and last is not None and first[1] == last[1] and last[2]
    return f"{labels[0]}–{same or labels[-1]}"
