"""The blocks of a latency table as heat maps: a row for each place, a column for each combination of choices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

from markupsafe import Markup

from hwnas.report import svg
from hwnas.report.figures import NARROW, ORDER_CLASSES, WIDE
from hwnas.report.formats import milliseconds, shortened, significant, spread
from hwnas.report.svg import Figure, LegendEntry
from hwnas.report.table_data import HeatCell, HeatMap, HeatRow

ROW = 28.0
LINE = 17.0
"""Height of a line of the columns' head."""
LABELS = 110.0
NARROW_LABELS = 96.0
LABEL_LETTERS = 16
GAP = 3.0
"""Between columns, in pixels."""
LOW = 0.45
"""Height of an interpolated cell as a share of a measured one's."""


def heat_map(heat: HeatMap, number: int) -> Figure:
    """Every block over all resolutions; on a telephone, where there is no room, at one resolution with its figures."""
    title = f"Blocks by {' and '.join(heat.choices)}" if heat.choices else "Blocks that every architecture has"
    known = [cell for row in heat.rows for column in row.cells for cell in column if cell is not None]
    name = f"heat{number}"
    if not known:
        return Figure(name, title, "No block is known here.")
    interpolated = sum(cell.std_ms is not None for cell in known)
    least, most = min(cell.ms for cell in known), max(cell.ms for cell in known)
    ends = f"{heat.resolutions[0]} to {heat.resolutions[-1]} px"
    summary = (
        f"{len(known)} times from {milliseconds(least)} to {milliseconds(most)}, "
        f"{interpolated} of them interpolated. From left to right in each column: {ends}"
    )
    summary += f"; on a narrow screen the figures are of {heat.shown} px, in µs." if heat.choices else "."
    levels = _Levels(least, most)
    wide, narrow = (
        svg.drawing(f"{title}: {summary}", width, _height(heat), *draw, variant=variant)
        for variant, width, draw in (
            ("wide", WIDE, _over_resolutions(heat, levels, LABELS, WIDE)),
            ("narrow", NARROW, _narrow(heat, levels)),
        )
    )
    return Figure(name, title, summary, wide, narrow, tuple(_legend(levels, interpolated > 0)))


class _Levels:
    """Which colour a time has: steps of equal ratio between the least and the most."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._ratio = least, most / least

    def of(self, ms: float) -> int:
        """From 0 to ORDER_CLASSES - 1."""
        if self._ratio <= 1:
            return 0
        return min(ORDER_CLASSES - 1, int(math.log(ms / self._least) / math.log(self._ratio) * ORDER_CLASSES))

    def bounds(self) -> list[tuple[float, float]]:
        """In ms, of each colour; one alone where all times are the same."""
        steps = ORDER_CLASSES if self._ratio > 1 else 1
        edges = [self._least * self._ratio ** (k / steps) for k in range(steps + 1)]
        return list(pairwise(edges))


def _legend(levels: _Levels, interpolated: bool) -> Iterator[LegendEntry]:
    for level, (low, high) in enumerate(levels.bounds()):
        mark = svg.tag("rect", x=0, y=1, width=16, height=14, class_=f"o{level}")
        yield LegendEntry(mark, f"{significant(low)} to {milliseconds(high)}")
    if interpolated:
        mark = svg.tag("rect", x=0, y=5, width=16, height=14 * LOW, class_="o3")
        yield LegendEntry(mark, "low: interpolated")


def _height(heat: HeatMap) -> float:
    return _top(heat) + ROW * len(heat.rows)


def _top(heat: HeatMap) -> float:
    return LINE * max(len(heat.choices), 1) + 5


def _narrow(heat: HeatMap, levels: _Levels) -> Iterator[Markup]:
    if not heat.choices:
        return _over_resolutions(heat, levels, NARROW_LABELS, NARROW)
    return _at_one_resolution(heat, levels)


def _over_resolutions(heat: HeatMap, levels: _Levels, left: float, width: float) -> Iterator[Markup]:
    """Narrow cells side by side, one for each resolution."""
    column = (width - left) / len(heat.columns)
    cell = (column - GAP) / len(heat.resolutions)
    yield from _head(heat, left, column)
    for y, row in _rows(heat):
        yield _label(row.label, y)
        for j, (values, cells) in enumerate(zip(heat.columns, row.cells, strict=True)):
            for k, (pixels, found) in enumerate(zip(heat.resolutions, cells, strict=True)):
                if found is not None:
                    x = left + j * column + k * cell
                    # Neighbours overlap a little: else hairlines of the page show between them.
                    yield _cell(found, levels, x, y, cell + 0.15, _tip(heat, row.label, values, pixels, found))


def _at_one_resolution(heat: HeatMap, levels: _Levels) -> Iterator[Markup]:
    """A cell for each combination, with its time in µs, without unit."""
    column = (NARROW - NARROW_LABELS) / len(heat.columns)
    position = heat.resolutions.index(heat.shown)
    yield from _head(heat, NARROW_LABELS, column)
    for y, row in _rows(heat):
        yield _label(row.label, y)
        for j, (values, cells) in enumerate(zip(heat.columns, row.cells, strict=True)):
            found = cells[position]
            if found is not None:
                x = NARROW_LABELS + j * column
                tip = _tip(heat, row.label, values, heat.shown, found)
                yield _cell(found, levels, x, y, column - 1, tip, low=0.72)
                ink = "on-strong" if levels.of(found.ms) >= ORDER_CLASSES / 2 else "on-faint"
                yield svg.text(x + column / 2, y + ROW / 2 + 4, _micro(found.ms), class_=ink, anchor="middle")


def _head(heat: HeatMap, left: float, column: float) -> Iterator[Markup]:
    """A line for each choice; values that are the same in columns side by side stand once."""
    for line, choice in enumerate(heat.choices):
        y = LINE * (line + 1) - 4
        yield svg.text(0, y, choice, class_="axis-title")
        start = 0
        for value, same in groupby(heat.columns, key=lambda values: values[: line + 1]):
            n = len(list(same))
            yield svg.text(left + (start + n / 2) * column - GAP / 2, y, str(value[-1]), class_="tick", anchor="middle")
            start += n
    if not heat.choices:
        ends = ((left, heat.resolutions[0], "start"), (left + column - GAP, heat.resolutions[-1], "end"))
        for x, pixels, anchor in ends:
            yield svg.text(x, LINE - 4, f"{pixels} px", class_="tick", anchor=anchor)


def _rows(heat: HeatMap) -> Iterator[tuple[float, HeatRow]]:
    for number, row in enumerate(heat.rows):
        yield _top(heat) + ROW * number, row


def _label(label: str, y: float) -> Markup:
    return svg.tag(
        "text", svg.tag("title", label), shortened(label, LABEL_LETTERS), x=0, y=y + ROW / 2 + 4, class_="label"
    )


def _cell(found: HeatCell, levels: _Levels, x: float, y: float, width: float, tip: str, low: float = LOW) -> Markup:
    full = ROW - 3
    height = full if found.std_ms is None else low * full
    return svg.rectangle(x, y + (full - height) / 2, width, height, f"o{levels.of(found.ms)}", tip)


def _tip(heat: HeatMap, label: str, values: Sequence[int], pixels: int, found: HeatCell) -> str:
    chosen = [f"{choice} {value}" for choice, value in zip(heat.choices, values, strict=True)]
    told = milliseconds(found.ms) if found.std_ms is None else f"{spread(found.ms, found.std_ms)}, interpolated"
    return " · ".join([label, *chosen, f"{pixels} px", told])


def _micro(ms: float) -> str:
    """A time in µs that is short enough for a narrow cell: three digits, thousands as k."""
    value = 1000 * ms
    if value < 9.995:
        return f"{value:.2f}"
    if value < 99.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if value < 999.5 else f"{value / 1000:.1f}k"
