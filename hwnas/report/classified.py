"""How the winner classifies the test split: which classes it takes for which, and how far its confidence is earned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from markupsafe import Markup

from hwnas.classification import Classification
from hwnas.report import svg
from hwnas.report.data import ReportData
from hwnas.report.figures import HALF_WIDE, NARROW, ORDER_CLASSES, WIDE, drawn
from hwnas.report.formats import percent, shortened
from hwnas.report.svg import Figure, Frame, LegendEntry, Scale
from hwnas.report.tables import Grid

CLASSES_DRAWN = 20
PAIRS_LISTED = 100
SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 0.7, 1.0)
"""Bounds of the colours o0 … o5."""
HEAD = 38.0
LABELS, NARROW_LABELS = 150.0, 112.0
LARGEST_CELL, LEAST_ROW = 42.0, 16.0
DIGIT = 6.5
"""Width of a digit in a cell, in pixels, as are those above."""


def scores(data: ReportData) -> Grid:
    """The networks that were scored: a column each."""
    networks = [(n.name, n.classification) for n in (data.winner.network, *data.yardsticks) if n.classification]
    quantities: tuple[tuple[str, Callable[[Classification], str]], ...] = (
        ("top-1", lambda c: percent(c.top1)),
        ("top-5", lambda c: percent(c.top5)),
        ("F1, macro average", lambda c: percent(c.f1)),
        ("precision, macro average", lambda c: percent(c.precision)),
        ("recall, macro average", lambda c: percent(c.recall)),
        ("calibration error (ECE)", lambda c: percent(c.calibration_error)),
        ("mean confidence", lambda c: percent(c.confidence)),
        ("images", lambda c: str(c.images)),
    )
    rows = tuple((name, *(cell(found) for _, found in networks)) for name, cell in quantities) if networks else ()
    return Grid("Compiled engines on the test split", ("", *(name for name, _ in networks)), rows)


def classes(found: Classification) -> Grid:
    """Precision, recall and F1 of every class."""
    rows = tuple((c.name, percent(c.precision), percent(c.recall), percent(c.f1), str(c.images)) for c in found.classes)
    return Grid("By class", ("class", "precision", "recall", "F1", "images"), rows)


def mistakes(found: Classification) -> Grid:
    """Which classes were taken for which, the most frequent first."""
    listed, count = found.mistakes[:PAIRS_LISTED], len(found.mistakes)
    rows = tuple(
        (_name(found, c.actual), _name(found, c.called), str(c.images), percent(_share(found, c.actual, c.images)))
        for c in listed
    )
    caption = "Mistakes" if count <= PAIRS_LISTED else f"The {PAIRS_LISTED} most frequent of {count} kinds of mistakes"
    return Grid(caption, ("class", "called", "images", "of its class"), rows)


def bins(found: Classification) -> Grid:
    """The bins of the reliability diagram that hold images."""
    rows = tuple(
        (f"{percent(low, 1)} to {percent(high, 1)}", percent(b.confidence), percent(b.accuracy), str(b.images))
        for (low, high), b in zip(pairwise(_edges(found)), found.bins, strict=True)
        if b.images
    )
    return Grid("Bins of confidence", ("confidence", "its mean", "accuracy", "images"), rows)


def reliability(found: Classification) -> Figure:
    """The share that is right against confidence (Guo et al. 2017, Fig. 1), by bins."""
    verdict = "too sure" if found.confidence > found.top1 else "not sure enough"
    summary = (
        f"Mean confidence {percent(found.confidence)}, top-1 {percent(found.top1)}: {verdict}. Expected "
        f"calibration error over {len(found.bins)} bins: {percent(found.calibration_error)}. The shade is the share of "
        "the images that a bin holds."
    )
    edges = list(pairwise(_edges(found)))

    def draw(width: float, height: float) -> Iterator[Markup]:
        horizontal, vertical = svg.plot_area(width, height)
        frame = Frame(Scale(0, 100, *horizontal), Scale(0, 100, *vertical))
        yield frame.axes("confidence, %", "accuracy, %")
        for (low, high), b in zip(edges, found.bins, strict=True):
            if b.accuracy is None:
                continue
            top = frame.y(100 * b.accuracy)
            told = f"{b.images} images · confidence {percent(b.confidence)} · accuracy {percent(b.accuracy)}"
            yield _rectangle(
                frame.x(100 * low) + 0.5,
                top,
                frame.x(100 * high) - frame.x(100 * low) - 1,
                frame.y(0) - top,
                _level(b.images / found.images),
                told,
            )
        corners = [(frame.x(value), frame.y(value)) for value in (0, 100)]
        yield svg.tag("polyline", points=svg.points(corners), class_="identity")

    legend = [LegendEntry(svg.line(0, 16, 16, 0, "identity"), "as sure as right"), *_shades()]
    return drawn("reliability", "Confidence and accuracy", summary, draw, ((HALF_WIDE, 400), (NARROW, 330)), legend)


def confusion(found: Classification) -> Figure:
    """The confusion matrix as a heat map, of the classes most often mistaken where there are many."""
    wrong = sum(c.images for c in found.mistakes)
    summary = f"{wrong} of {found.images} images are classified wrongly"
    if found.mistakes:
        worst = found.mistakes[0]
        summary += f", most often {_name(found, worst.actual)} as {_name(found, worst.called)} ({worst.images})"
    shown = _most_mistaken(found)
    if len(shown) < len(found.classes):
        summary += f". Drawn are the {len(shown)} of {len(found.classes)} classes that are in most of the mistakes"
    summary += ". The shade is the share of the images of the class."
    position = {number: place for place, number in enumerate(shown)}

    def cell_of(width: float) -> tuple[float, float]:
        side = min((width - (LABELS if width == WIDE else NARROW_LABELS)) / len(shown), LARGEST_CELL)
        return side, max(side, LEAST_ROW)

    def draw(width: float, _: float) -> Iterator[Markup]:
        left, letters = (LABELS, 20) if width == WIDE else (NARROW_LABELS, 14)
        cell, row = cell_of(width)
        yield svg.text(0, 13, "class", class_="axis-title")
        yield svg.text(left, 13, "called", class_="axis-title")
        for place, number in enumerate(shown):
            label, y = f"{place + 1} {_name(found, number)}", HEAD + (place + 0.5) * row + 4
            yield svg.tag("text", svg.tag("title", label), shortened(label, letters), x=0, y=y, class_="label")
            if cell >= LEAST_ROW or place == 0 or (place + 1) % 5 == 0:
                x = left + (place + 0.5) * cell
                yield svg.text(x, HEAD - 6, str(place + 1), class_="tick", anchor="middle")
        for c in found.confusion:
            if c.actual not in position or c.called not in position:
                continue
            x, y = left + position[c.called] * cell, HEAD + position[c.actual] * row
            share = _share(found, c.actual, c.images)
            told = f"{_name(found, c.actual)} called {_name(found, c.called)}: {c.images} images, {percent(share)}"
            yield _rectangle(x, y, cell - 1, row - 1, _level(share), told)
            if DIGIT * len(str(c.images)) < cell - 2:
                ink = "on-strong" if _level(share) >= ORDER_CLASSES / 2 else "on-faint"
                yield svg.text(x + cell / 2, y + row / 2 + 4, str(c.images), class_=ink, anchor="middle")

    wide, narrow = (HEAD + len(shown) * cell_of(width)[1] for width in (WIDE, NARROW))
    return drawn("confusion", "Confusion matrix", summary, draw, ((WIDE, wide), (NARROW, narrow)), list(_shades()))


def _most_mistaken(found: Classification) -> list[int]:
    """The numbers of at most CLASSES_DRAWN classes, in their order."""
    involved = [0] * len(found.classes)
    for c in found.mistakes:
        involved[c.actual] += c.images
        involved[c.called] += c.images
    worst = sorted(range(len(involved)), key=lambda number: -involved[number])
    return sorted(worst[:CLASSES_DRAWN])


def _edges(found: Classification) -> list[float]:
    return [k / len(found.bins) for k in range(len(found.bins) + 1)]


def _share(found: Classification, actual: int, images: int) -> float:
    return images / found.classes[actual].images


def _name(found: Classification, number: int) -> str:
    return found.classes[number].name


def _level(share: float) -> int:
    """The colour of a share, from 0 to ORDER_CLASSES - 1."""
    return sum(share > bound for bound in SHARES[1:-1])


def _shades() -> Iterator[LegendEntry]:
    for level, (low, high) in enumerate(pairwise(SHARES)):
        mark = svg.tag("rect", x=0, y=1, width=16, height=14, class_=f"o{level}")
        yield LegendEntry(mark, f"{100 * low:.0f} to {percent(high, 0)}")


def _rectangle(x: float, y: float, width: float, height: float, level: int, tip: str) -> Markup:
    return svg.tag("rect", svg.tag("title", tip), x=x, y=y, width=width, height=height, class_=f"o{level}")
