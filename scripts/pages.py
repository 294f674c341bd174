"""Shared by the benchmarks that end with a page: figures and tables by the means of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from hwnas.files import write_atomic
from hwnas.report import svg
from hwnas.report.figures import NARROW, ORDER_CLASSES, WIDE, drawn
from hwnas.report.page import template
from hwnas.report.svg import Figure, Frame, LegendEntry, Scale
from hwnas.report.tables import Grid

_PAGE = """{% extends "page.html" %}{% from "parts.html" import draw, grid %}
{% block title %}{{ title }}{% endblock %}
{% block heading %}<p class="eyebrow">hwnas</p><h1>{{ title }}</h1>{% endblock %}
{% block sections %}
<section>{% for figure in figures %}<div class="beside">{{ draw(figure) }}</div>{% endfor %}
{% for table in tables %}{{ grid(table, "") }}{% endfor %}</section>
{% endblock %}"""

_ROW = 40.0

Points = Sequence[tuple[float, float]]


def write_page(path: Path, title: str, lead: str, figures: Sequence[Figure], tables: Sequence[Grid]) -> None:
    """Write a self-contained page, whole or not at all."""
    page = template("page.html").environment.from_string(_PAGE)
    write_atomic(path, page.render(title=title, lead=lead, warnings=(), tiles=(), figures=figures, tables=tables))


def curves(
    name: str, title: str, summary: str, axes: tuple[str, str], groups: Mapping[str, Sequence[Points]]
) -> Figure:
    """Lines through points; those of one group (at most six groups) share a colour.

    ``axes``: titles of the horizontal and of the vertical one.
    """
    every = [point for lines in groups.values() for line in lines for point in line]
    if not every:
        return Figure(name, title, "Nothing was measured yet, so there is nothing to draw.")
    shades = {group: f"candidate o{_shade(number, len(groups))}" for number, group in enumerate(groups)}

    def draw(width: float, height: float) -> Iterator[Markup]:
        horizontal, vertical = svg.plot_area(width, height)
        frame = Frame(Scale.around([x for x, _ in every], *horizontal), Scale.around([y for _, y in every], *vertical))
        yield frame.axes(*axes)
        for group, lines in groups.items():
            for line in lines:
                corners = [(frame.x(x), frame.y(y)) for x, y in line]
                yield svg.tag("polyline", points=svg.points(corners), class_="identity")
                for (left, top), (x, y) in zip(corners, line, strict=True):
                    yield svg.dot(left, top, 5, shades[group], f"{group} · {x:.4g}, {y:.4g}")

    legend = [LegendEntry(svg.dot(8, 8, 5, shade), group) for group, shade in shades.items()]
    return drawn(name, title, summary, draw, ((WIDE, 400), (NARROW, 330)), legend)


def strips(name: str, title: str, summary: str, axis: str, rows: Mapping[str, Sequence[float]]) -> Figure:
    """A row of dots for each name, on one horizontal axis."""
    every = [value for values in rows.values() for value in values]
    if not every:
        return Figure(name, title, "Nothing was measured yet, so there is nothing to draw.")

    def draw(width: float, height: float) -> Iterator[Markup]:
        scale = Scale.around(every, 12.0, width - 12.0)
        bottom = height - svg.MARGIN_BOTTOM
        for value, label in scale.ticks(int(width / 80)):
            yield svg.line(scale(value), 0, scale(value), bottom, "grid")
            yield svg.text(scale(value), bottom + 19, label, class_="tick", anchor="middle")
        yield svg.text(width - 12, bottom + 38, axis, class_="axis-title", anchor="end")
        for number, (row, values) in enumerate(rows.items()):
            yield svg.text(0, number * _ROW + 14, row, class_="mark-label")
            for value in values:
                yield svg.dot(scale(value), number * _ROW + 28, 5, "candidate o3", f"{row} · {value:.2f}")

    height = len(rows) * _ROW + svg.MARGIN_BOTTOM
    return drawn(name, title, summary, draw, ((WIDE, height), (NARROW, height)), ())


def _shade(number: int, groups: int) -> int:
    return round(number * (ORDER_CLASSES - 1) / max(groups - 1, 1))
