"""From published rows to a latency table of kind ``imported``."""

from __future__ import annotations

import datetime
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.devices import Fingerprint
from hwnas.errors import BadFileError, UserError
from hwnas.latency.hygiene import Hygiene, RowNote
from hwnas.latency.importers.cleaning import clean, notes
from hwnas.latency.importers.rows import Published, Row
from hwnas.latency.plan import blocks_at
from hwnas.latency.table import BlockEntry, LatencyTable, Missing
from hwnas.spaces import BlockSpec, Space

_MAD_PER_STD = 0.6745
"""Median absolute deviation of a normal distribution with standard deviation 1."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """Blocks, each with the rows that make it up, and what cannot be a block and why."""

    blocks: tuple[tuple[BlockSpec, tuple[Row, ...]], ...]
    refused: tuple[tuple[Row, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """A format of published tables."""

    name: str
    read: Callable[[Path], Published]
    siblings: Callable[[Path], list[Path]]
    """Tables of other devices that were published with one."""
    convert: Callable[[Sequence[Row]], Conversion]
    whole: bool
    """The format describes networks of our spaces: a table with few of a space's blocks is of another space."""


def import_table(
    published: Format, path: Path, target: str, space: Space, against: Sequence[Path] = (), *, keep_copied: bool = False
) -> LatencyTable:
    """The table of a device from what was published of it.

    Args:
        published: the format.
        path: the device's file, or directory of files.
        target: the device's name from now on.
        space: whose blocks are looked for.
        against: other devices' tables, in which copies are looked for; without any, those published beside ``path``.
        keep_copied: mark copied rows instead of refusing them: this device is the original.

    Raises:
        BadFileError: a file is missing or not of the format, or a directory is empty.
        UserError: the rows are not of the space's blocks, or none is left.
    """
    ours = published.read(path)
    others = _read_others(published, path, against)
    kept, refused, marked = clean(ours.rows, others, keep_copied=keep_copied)
    resolutions = tuple(r for r in ours.resolutions if r in space.resolutions)
    conversion = _within(published.convert([row for row in kept if row.resolution in resolutions]), space)
    outside = [(row, f"the space has no {row.resolution} px") for row in kept if row.resolution not in resolutions]
    if not conversion.blocks or (published.whole and _misfits(conversion) > len(kept) / 2):
        raise UserError(
            f"Published table {path} cannot be a table of {space.name}: of {len(ours.rows)} rows "
            f"{len(ours.rows) - len(kept)} cannot be believed and only "
            f"{sum(len(rows) for _, rows in conversion.blocks)} are blocks of the space"
            f"{_example([*conversion.refused, *outside])}; give the space that it was made for."
        )
    entries = _entries(conversion)
    absent = _absent(space, {entry.block for entry in entries})
    wanted = set(blocks_at(space, resolutions)) - _only_in(space, absent)
    return LatencyTable(
        kind="imported",
        target=target,
        space=space.name,
        num_classes=space.num_classes,
        runtime="imported",
        mode=published.name,
        precision="unknown",
        batch=1,
        threads=1,
        fingerprint=Fingerprint(identity={"imported_from": published.name, "device": target}, context={}),
        protocol={"blocks": _protocol(published), "networks": {}},
        fast_states_ms={},
        created=datetime.date.today(),
        profile_seconds=0.0,
        resolutions=resolutions,
        seed=0,
        missing=Missing(blocks=len(wanted - {entry.block for entry in entries})),
        blocks=entries,
        networks=(),
        hygiene=Hygiene(
            rows=len(ours.rows),
            compared_with=tuple(others),
            refused=_merged([*refused, *notes([*conversion.refused, *outside])]),
            marked=tuple(marked),
            absent=absent,
            relative=bool(absent),
        ),
    )


def _read_others(published: Format, path: Path, against: Sequence[Path]) -> dict[str, Published]:
    """Other devices' tables by their path.  Those that were not named may also be something else than tables."""
    if against:
        named = [other for other in against if other.resolve() != path.resolve()]
        return {_name(other): published.read(other) for other in named}
    found = {}
    for other in published.siblings(path):
        try:
            found[_name(other)] = published.read(other)
        except BadFileError:
            continue
    return found


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.suffix else path.name


def _within(conversion: Conversion, space: Space) -> Conversion:
    """The same without the blocks that the space does not have; refused are rows none of whose blocks it has."""
    known = set(space.distinct_blocks)
    blocks = tuple((block, rows) for block, rows in conversion.blocks if block in known)
    placed = {row for _, rows in blocks for row in rows}
    others = dict.fromkeys(row for _, rows in conversion.blocks for row in rows if row not in placed)
    return Conversion(blocks, (*conversion.refused, *((row, _NO_SUCH_BLOCK) for row in others)))


_NO_SUCH_BLOCK = "the space has no such block"


def _misfits(conversion: Conversion) -> int:
    return sum(reason == _NO_SUCH_BLOCK for _, reason in conversion.refused)


def _example(refused: Sequence[tuple[Row, str]]) -> str:
    return f" (of {refused[0][0].key.text}: {refused[0][1]})" if refused else ""


def _entries(conversion: Conversion) -> tuple[BlockEntry, ...]:
    """One entry a block.  Resolutions whose feature maps have the same size each publish it: they are pooled."""
    timings: dict[BlockSpec, list[tuple[int, float, float]]] = defaultdict(list)
    for block, rows in conversion.blocks:
        mean = sum(row.mean_ms for row in rows)
        variance = sum((row.std_ms or 0.0) ** 2 for row in rows)
        timings[block].append((min(row.count for row in rows), mean, variance))
    return tuple(_entry(block, found) for block, found in timings.items())


def _entry(block: BlockSpec, timings: Iterable[tuple[int, float, float]]) -> BlockEntry:
    """Of (runs, mean ms, variance ms²) of the same block."""
    found = list(timings)
    n = sum(count for count, _, _ in found)
    mean = sum(count * ms for count, ms, _ in found) / n
    variance = sum(count * (spread + (ms - mean) ** 2) for count, ms, spread in found) / n
    return BlockEntry(
        block=block,
        n=n,
        median_ms=mean,
        p90_ms=None,
        p99_ms=None,
        mad_ms=_MAD_PER_STD * math.sqrt(variance),
        builds=1,
        build_medians_ms=(mean,),
        ungated_n=n,
        ungated_median_ms=mean,
    )


def _absent(space: Space, known: set[BlockSpec]) -> tuple[str, ...]:
    """Slots without any choice but the resolution, of which no block is known."""
    return tuple(
        slot.label
        for slot in space.slots
        if slot.choices == ("resolution",) and not any(slot.build(r) in known for r in space.resolutions)
    )


def _only_in(space: Space, slots: Sequence[str]) -> set[BlockSpec]:
    built = (slot.build(r) for slot in space.slots if slot.label in slots for r in space.resolutions)
    return {block for block in built if block is not None}


def _merged(said: Iterable[RowNote]) -> tuple[RowNote, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    for note in said:
        counts[note.row_type, note.reason] += note.rows
    return tuple(RowNote(row_type=row_type, rows=n, reason=why) for (row_type, why), n in counts.items())


def _protocol(published: Format) -> Mapping[str, object]:
    return {
        "imported": True,
        "format": published.name,
        "statistic": "the published mean stands for the median; equal blocks of several resolutions are pooled",
        "spread": "median absolute deviation of a normal distribution with the published standard deviation",
        "unknown": "runtime, precision, batch and threads, where the source does not state them",
    }
