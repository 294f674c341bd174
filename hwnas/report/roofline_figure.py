"""Engines under the roofs of their device: operations a second against operations a byte, both in powers of ten."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from markupsafe import Markup

from hwnas.report import svg
from hwnas.report.comparison_data import EngineFigures, Roof, UnderRoof
from hwnas.report.figures import HALF_WIDE, NARROW
from hwnas.report.formats import NBSP, count, percent, shortened, significant
from hwnas.report.svg import Figure, LegendEntry, Scale

HEIGHT = 340.0
_TITLE = "Roofline"
_ROOM = 0.25
"""Of a power of ten, around what is drawn."""


def roofline(engines: Sequence[EngineFigures], roofs: Sequence[Roof]) -> Figure:
    """A dot for each engine, and for each precision the roof of memory and the one of arithmetic."""
    known = [(roof.operations_per_s, roof.bytes_per_s, roof.precision) for roof in roofs]
    whole = [(peak, speed, name) for peak, speed, name in known if peak is not None and speed is not None]
    dots = [(engine, engine.roofline) for engine in engines if engine.roofline is not None]
    dots = [(engine, under) for engine, under in dots if under.operations_per_s > 0]
    if not whole or not dots:
        reason = next((roof.reason for roof in roofs if roof.reason), None) or "no roof was measured"
        return Figure("roofline", _TITLE, f"Nothing can be drawn: {reason}.")
    told = "; ".join(f"{name}: {count(peak)}op/s, {count(speed)}B/s" for peak, speed, name in whole)
    summary = f"Measured roofs: {told}. " + " ".join(_sentence(engine, under) for engine, under in dots)

    def draw(width: float) -> Iterator[Markup]:
        (left, right), (bottom, top) = svg.plot_area(width, HEIGHT)
        ridges = [peak / speed for peak, speed, _ in whole]
        x = _Decades([under.intensity for _, under in dots] + ridges, left, right)
        y = _Decades([under.operations_per_s for _, under in dots] + [peak for peak, _, _ in whole], bottom, top)
        yield from _axes(x, y, width)
        for peak, speed, name in whole:
            yield from _roof(x, y, peak, speed, name)
        for number, (engine, under) in enumerate(dots):
            tip = f"{engine.name}: {_achieved(under)}"
            cx, cy = x(under.intensity), y(under.operations_per_s)
            yield svg.dot(cx, cy, 6, f"candidate o{5 - number % 6}", tip)
            yield svg.text(cx, cy + 20, shortened(engine.name, 18), class_="mark-label", anchor="middle")

    wide, narrow = (
        svg.drawing(f"{_TITLE}: {summary}", width, HEIGHT, *draw(width), variant=variant)
        for variant, width in (("wide", HALF_WIDE), ("narrow", NARROW))
    )
    legend = (
        LegendEntry(svg.dot(8, 8, 6, "candidate o5"), "an engine"),
        LegendEntry(svg.line(0, 8, 16, 8, "budget"), "what the device can do, measured in the same run"),
    )
    return Figure("roofline", _TITLE, summary, wide, narrow, legend)


class _Decades:
    """A scale of powers of ten that shows all values, with some room."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        powers = [math.log10(value) for value in values]
        self._scale = Scale(min(powers) - _ROOM, max(powers) + _ROOM, start, end)

    def __call__(self, value: float) -> float:
        return self._scale(math.log10(value))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value."""
        return 10**self._scale.low, 10**self._scale.high

    def ticks(self) -> Iterator[float]:
        """Powers of ten, and where there is but one or none, some between them."""
        low, high = self._scale.low, self._scale.high
        factors = (1, 2, 5) if high - low < 2 else (1,)
        for power in range(math.floor(low), math.ceil(high) + 1):
            for factor in factors:
                if low <= math.log10(factor) + power <= high:
                    yield factor * 10.0**power


def _axes(x: _Decades, y: _Decades, width: float) -> Iterator[Markup]:
    (left, right), (bottom, _) = svg.plot_area(width, HEIGHT)
    yield svg.text(0, 13, "operations/s", class_="axis-title")
    for value in y.ticks():
        yield svg.line(left, y(value), right, y(value), "grid")
        yield svg.text(left - 8, y(value) + 4, count(value), class_="tick", anchor="end")
    for value in x.ticks():
        yield svg.line(x(value), bottom, x(value), bottom + 5, "axis")
        yield svg.text(x(value), bottom + 19, significant(value, 1), class_="tick", anchor="middle")
    yield svg.line(left, bottom, right, bottom, "axis")
    yield svg.text(right, bottom + 38, "operations/byte", class_="axis-title", anchor="end")


def _roof(x: _Decades, y: _Decades, peak: float, speed: float, name: str) -> Iterator[Markup]:
    """Up with the memory's speed, then level."""
    (first, last), (lowest, _) = x.ends, y.ends
    begin = max(first, lowest / speed)
    ridge = peak / speed
    corners = [(begin, begin * speed), (ridge, peak), (last, peak)]
    for (x1, y1), (x2, y2) in pairwise(corners):
        yield svg.line(x(x1), y(y1), x(x2), y(y2), "budget")
    yield svg.text(x(last), y(peak) - 7, name, class_="small", anchor="end")


def _achieved(under: UnderRoof) -> str:
    share = "" if under.share is None else f", {percent(under.share, 0)} of what is attainable"
    return f"{count(under.operations_per_s)}op/s at {significant(under.intensity)}{NBSP}op/B{share}"


def _sentence(engine: EngineFigures, under: UnderRoof) -> str:
    bound = "" if under.bound_by is None else f"; the roof there is {under.bound_by}"
    return f"{engine.name} reaches {_achieved(under)}{bound}."
