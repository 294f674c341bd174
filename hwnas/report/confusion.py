"""A confusion matrix as a heat map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from hwnas.classification import Classification
from hwnas.report import svg
from hwnas.report.figures import NARROW, ORDER_CLASSES, WIDE, drawn
from hwnas.report.formats import percent, shortened
from hwnas.report.svg import Figure, LegendEntry

CLASSES_DRAWN = 20
SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 0.7, 1.0)
"""Bounds of the colours o0 … o5."""
HEAD = 38.0
LARGEST_CELL, LEAST_ROW = 42.0, 16.0
DIGIT = 6.5
"""Width of a digit in a cell, in pixels, as are those above."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of a matrix of ``n`` classes: width and letters of the labels, width of a column, height of a row."""

    n: int
    left: float
    letters: int
    column: float
    row: float

    @classmethod
    def of(cls, n: int, width: float) -> _Layout:
        left, letters = (150.0, 20) if width == WIDE else (112.0, 14)
        column = min((width - left) / n, LARGEST_CELL)
        return cls(n, left, letters, column, max(column, LEAST_ROW))

    @property
    def height(self) -> float:
        return HEAD + self.n * self.row

    def corner(self, row: int, column: int) -> tuple[float, float]:
        """Upper left of a cell."""
        return self.left + column * self.column, HEAD + row * self.row


def confusion(found: Classification) -> Figure:
    """The classes, down the side, as what they are called; where there are many, those most often mistaken."""
    shown = _most_mistaken(found)

    def draw(width: float, _: float) -> Iterator[Markup]:
        layout = _Layout.of(len(shown), width)
        yield from _heads([found.classes[number].name for number in shown], layout)
        yield from _cells(found, shown, layout)

    wide, narrow = ((width, _Layout.of(len(shown), width).height) for width in (WIDE, NARROW))
    return drawn("confusion", "Confusion matrix", _summary(found, shown), draw, (wide, narrow), list(shades()))


def level(share: float) -> int:
    """The colour of a share, from 0 to ORDER_CLASSES - 1."""
    return sum(share > bound for bound in SHARES[1:-1])


def shades() -> Iterator[LegendEntry]:
    """The shares that each colour stands for."""
    for colour, (low, high) in enumerate(pairwise(SHARES)):
        mark = svg.tag("rect", x=0, y=1, width=16, height=14, class_=f"o{colour}")
        yield LegendEntry(mark, f"{100 * low:.0f} to {percent(high, 0)}")


def _most_mistaken(found: Classification) -> list[int]:
    """The numbers of at most CLASSES_DRAWN classes, in their order."""
    involved = [0] * len(found.classes)
    for mistake in found.mistakes:
        involved[mistake.actual] += mistake.images
        involved[mistake.called] += mistake.images
    worst = sorted(range(len(involved)), key=lambda number: -involved[number])
    return sorted(worst[:CLASSES_DRAWN])


def _summary(found: Classification, shown: Sequence[int]) -> str:
    classes, mistakes = found.classes, found.mistakes
    told = f"{sum(each.images for each in mistakes)} of {found.images} images are classified wrongly"
    if mistakes:
        worst = mistakes[0]
        told += f", most often {classes[worst.actual].name} as {classes[worst.called].name} ({worst.images})"
    if len(shown) < len(classes):
        told += f". Drawn are the {len(shown)} of {len(classes)} classes that are in most of the mistakes"
    return f"{told}. The shade is the share of the images of the class."


def _heads(names: Sequence[str], layout: _Layout) -> Iterator[Markup]:
    """Number and name of the rows, and the numbers of the columns, every fifth where there is no room."""
    yield svg.text(0, 13, "class", class_="axis-title")
    yield svg.text(layout.left, 13, "called", class_="axis-title")
    for place, name in enumerate(names):
        label = f"{place + 1} {name}"
        x, y = layout.corner(place, place)
        cut, base = shortened(label, layout.letters), y + layout.row / 2 + 4
        yield svg.tag("text", svg.tag("title", label), cut, x=0, y=base, class_="label")
        if layout.column >= LEAST_ROW or place == 0 or (place + 1) % 5 == 0:
            yield svg.text(x + layout.column / 2, HEAD - 6, str(place + 1), class_="tick", anchor="middle")


def _cells(found: Classification, shown: Sequence[int], layout: _Layout) -> Iterator[Markup]:
    """The cells that are not 0, with their images where there is room."""
    place = {number: position for position, number in enumerate(shown)}
    for entry in found.confusion:
        if entry.actual not in place or entry.called not in place:
            continue
        actual, images = found.classes[entry.actual], str(entry.images)
        share = entry.images / actual.images
        x, y = layout.corner(place[entry.actual], place[entry.called])
        tip = f"{actual.name} called {found.classes[entry.called].name}: {images} images, {percent(share)}"
        yield svg.rectangle(x, y, layout.column - 1, layout.row - 1, f"o{level(share)}", tip)
        if DIGIT * len(images) < layout.column - 2:
            ink = "on-strong" if level(share) >= ORDER_CLASSES / 2 else "on-faint"
            yield svg.text(x + layout.column / 2, y + layout.row / 2 + 4, images, class_=ink, anchor="middle")
