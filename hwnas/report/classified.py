"""How networks classify the test split: figures, classes, mistakes, and how far confidence is earned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from markupsafe import Markup

from hwnas.classification import Classification
from hwnas.report import svg
from hwnas.report.confusion import level, shades
from hwnas.report.data import ReportData
from hwnas.report.figures import HALF_WIDE, NARROW, drawn
from hwnas.report.formats import percent
from hwnas.report.svg import Figure, Frame, LegendEntry, Scale
from hwnas.report.tables import Grid, beside

PAIRS_LISTED = 100


def scores(data: ReportData) -> Grid:
    """The networks that were scored: a column each."""
    networks = [(n.name, n.classification) for n in data.networks if n.classification]
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
    return beside("Compiled engines on the test split", networks, quantities)


def classes(found: Classification) -> Grid:
    """Precision, recall and F1 of every class."""
    rows = tuple((c.name, percent(c.precision), percent(c.recall), percent(c.f1), str(c.images)) for c in found.classes)
    return Grid("By class", ("class", "precision", "recall", "F1", "images"), rows)


def mistakes(found: Classification) -> Grid:
    """Which classes were taken for which, the most frequent first."""
    listed, count = found.mistakes[:PAIRS_LISTED], len(found.mistakes)
    rows = tuple(
        (
            found.classes[c.actual].name,
            found.classes[c.called].name,
            str(c.images),
            percent(c.images / found.classes[c.actual].images),
        )
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
            left, right = frame.x(100 * low), frame.x(100 * high)
            shade = f"o{level(b.images / found.images)}"
            yield svg.rectangle(left + 0.5, top, right - left - 1, frame.y(0) - top, shade, told)
        corners = [(frame.x(value), frame.y(value)) for value in (0, 100)]
        yield svg.tag("polyline", points=svg.points(corners), class_="identity")

    legend = [LegendEntry(svg.line(0, 16, 16, 0, "identity"), "as sure as right"), *shades()]
    return drawn("reliability", "Confidence and accuracy", summary, draw, ((HALF_WIDE, 400), (NARROW, 330)), legend)


def _edges(found: Classification) -> list[float]:
    return [k / len(found.bins) for k in range(len(found.bins) + 1)]
