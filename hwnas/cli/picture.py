"""A latency table's blocks as a picture for the terminal: a heat map at one resolution, sparklines over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from hwnas.latency.overview import BlockMap

HEAT = ("#30123b", "#4145ab", "#4675ed", "#39a2fc", "#1bcfd4", "#61fc6c", "#d1e834", "#fe9b2d", "#d93806")
"""Backgrounds from the fastest to the slowest block: Turbo (Mikhailov 2019) without its darkest red."""
DARK_BELOW, DARK_FROM = 3, 8
"""On the backgrounds between these letters are black, on the others white."""
BARS = "▁▂▃▄▅▆▇█"
INTERPOLATED = "~"
CELL = 6
"""Letters: a mark, up to four digits and point, a space."""


def picture(maps: Iterable[BlockMap], resolution: int, statistic: str) -> Iterator[Text]:
    """The lines: for each map with choices a heat map at ``resolution``, then sparklines of all places.

    ``statistic`` is what the times are, such as ``p50``.
    """
    known = list(maps)
    for block_map in known:
        if block_map.choices:
            yield from heat_map(block_map, resolution, statistic)
            yield Text("")
    yield from sparklines(known)


def heat_map(block_map: BlockMap, resolution: int, statistic: str) -> Iterator[Text]:
    """A row for each place and a cell for each combination of choices, coloured by the logarithm of its time."""
    position = block_map.resolutions.index(resolution)
    shown = block_map.ms[:, :, position].tolist()
    measured = block_map.measured[:, :, position].tolist()
    times = [ms for row in shown for ms in row if not math.isnan(ms)]
    if not times:
        yield Text(f"No block is known at {resolution} px.")
        return
    unit, factor = _unit(times)
    legend = ", ".join(f"{choice[0]}: {choice}" for choice in block_map.choices)
    yield Text(f"Blocks at {resolution} px, {unit}, {statistic}; {legend}", style="bold")
    width = max(map(len, block_map.labels)) + 2
    names = [
        "".join(f"{c[0]}{v}" for c, v in zip(block_map.choices, column, strict=True)) for column in block_map.columns
    ]
    yield Text(" " * width + "".join(name.center(CELL) for name in names), style="dim")
    for label, row, known in zip(block_map.labels, shown, measured, strict=True):
        line = Text(label.ljust(width))
        for ms, is_measured in zip(row, known, strict=True):
            line.append_text(_cell(ms, is_measured, factor, min(times), max(times)))
        yield line
    scale = Text(f"{_digits(factor * min(times))} {unit} ")
    for colour in HEAT:
        scale.append("  ", style=f"on {colour}")
    scale.append(f" {_digits(factor * max(times))} {unit}")
    if len(times) > sum(map(sum, measured)):
        scale.append(f"; {INTERPOLATED}: interpolated")
    yield scale


def sparklines(maps: Iterable[BlockMap]) -> Iterator[Text]:
    """For each place its block of the most costly choices, over all resolutions, from 0 to its slowest."""
    known = list(maps)
    resolutions = known[0].resolutions
    width = max(len(label) for block_map in known for label in block_map.labels) + 2
    everywhere = [all(_measured_or_unknown(block_map, j) for block_map in known) for j in range(len(resolutions))]
    yield Text(f"Largest block of each place, {resolutions[0]} to {resolutions[-1]} px", style="bold")
    if not all(everywhere):
        marks = "".join("▪" if measured else INTERPOLATED for measured in everywhere)
        yield Text(" " * width + marks + f"  {INTERPOLATED}: some of them interpolated, dim below")
    for block_map in known:
        for row, label in enumerate(block_map.labels):
            times = block_map.ms[row, -1].tolist()
            line = Text(label.ljust(width))
            line.append_text(_sparkline(times, block_map.measured[row, -1].tolist()))
            line.append(_range(times), style="dim")
            yield line


def _measured_or_unknown(block_map: BlockMap, position: int) -> bool:
    """Whether no row's largest block is interpolated at a resolution."""
    times, measured = block_map.ms[:, -1, position].tolist(), block_map.measured[:, -1, position].tolist()
    return all(known or math.isnan(ms) for ms, known in zip(times, measured, strict=True))


def _sparkline(times: list[float], measured: list[bool]) -> Text:
    finite = [ms for ms in times if not math.isnan(ms)]
    line = Text()
    for ms, is_measured in zip(times, measured, strict=True):
        if math.isnan(ms):
            line.append(" ")
        else:
            level = min(len(BARS) - 1, int(ms / max(finite) * len(BARS)))
            line.append(BARS[level], style="cyan" if is_measured else "dim cyan")
    return line


def _range(times: list[float]) -> str:
    finite = [ms for ms in times if not math.isnan(ms)]
    if not finite:
        return "  nothing is known"
    unit, factor = _unit(finite)
    return f"  {_digits(factor * min(finite))} to {_digits(factor * max(finite))} {unit}"


def _cell(ms: float, measured: bool, factor: float, least: float, most: float) -> Text:
    if math.isnan(ms):
        return Text("–".center(CELL), style="dim")
    level = _level(ms, least, most, len(HEAT))
    ink = "#000000" if DARK_BELOW <= level < DARK_FROM else "#ffffff"
    mark = " " if measured else INTERPOLATED
    return Text(f"{mark}{_digits(factor * ms):>4} ", style=f"{ink} on {HEAT[level]}")


def _level(value: float, least: float, most: float, levels: int) -> int:
    """Which of so many steps of equal ratio between the least and the most a value lies on."""
    if most <= least:
        return 0
    return min(levels - 1, int(math.log(value / least) / math.log(most / least) * levels))


def _unit(times: list[float]) -> tuple[str, float]:
    """In which unit these times (ms) have few digits, and how many of it a millisecond has."""
    return ("µs", 1e3) if max(times) < 0.99995 else ("ms", 1.0)


def _digits(value: float) -> str:
    """Three significant digits in at most four letters, point included, up to 9999."""
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
