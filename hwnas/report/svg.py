"""The few pieces of SVG that the figures are made of: elements, scales, a frame with axes.

Colours are classes, so that the page's style sheet decides them for light, dark and paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from hwnas.report.formats import MINUS

Attribute = str | float | None


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A mark of a figure, drawn in a box of 16 × 16, and what it stands for."""

    mark: Markup
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure drawn twice, for a desk and for a hand, or, where there is nothing to draw, the sentence why.

    ``summary`` is what a screen reader says in place of the drawing.
    """

    id: str
    title: str
    summary: str
    wide: Markup | None = None
    narrow: Markup | None = None
    legend: tuple[LegendEntry, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to draw; ``summary`` says why."""
        return self.wide is None


def tag(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """An element, everything escaped that is no Markup; ``class_`` is class, ``stroke_width`` stroke-width."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")  # noqa: S704 - every part is escaped


def join(parts: Iterable[str]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def drawing(label: str, width: float, height: float, *children: str, variant: str = "") -> Markup:
    """An ``<svg>`` that scales to its container and is one image, called ``label``, to a screen reader."""
    return tag(
        "svg",
        *children,
        role="img",
        aria_label=label,
        class_=variant or None,
        viewBox=f"0 0 {_text(width)} {_text(height)}",
    )


def text(x: float, y: float, content: str, *, class_: str = "", anchor: str = "start") -> Markup:
    """Text whose base line begins (or is centred, or ends) at a point."""
    return tag("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, title: str = "") -> Markup:
    """A circle, with a tooltip if ``title`` is given."""
    return tag("circle", *([tag("title", title)] if title else []), cx=x, cy=y, r=radius, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str, title: str) -> Markup:
    """A rectangle with a tooltip."""
    return tag("rect", tag("title", title), x=x, y=y, width=width, height=height, class_=class_)


def star(x: float, y: float, radius: float, class_: str, title: str = "") -> Markup:
    """A five-pointed star, with a tooltip if ``title`` is given."""
    corners = [
        (
            x + (radius if k % 2 == 0 else 0.45 * radius) * math.sin(k * math.pi / 5),
            y - (radius if k % 2 == 0 else 0.45 * radius) * math.cos(k * math.pi / 5),
        )
        for k in range(10)
    ]
    return tag("polygon", *([tag("title", title)] if title else []), points=points(corners), class_=class_)


def points(corners: Iterable[tuple[float, float]]) -> str:
    """Corners as the ``points`` of a polygon or polyline."""
    return " ".join(f"{_text(x)},{_text(y)}" for x, y in corners)


def steps(corners: Sequence[tuple[float, float]]) -> str:
    """``points`` of a staircase: along to the next x, then up or down."""
    stairs = [corners[0]]
    for x, y in corners[1:]:
        stairs += [(x, stairs[-1][1]), (x, y)]
    return points(stairs)


NOTHING = 1e-9
"""An interval around 0 that is shorter shows nothing but 0."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear map from the interval [low, high] of a quantity to pixels."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, *, padding: float = 0.06) -> Scale:
        """The scale that shows all ``values`` (one at least) with some room on both sides."""
        found = list(values)
        low, high = min(found), max(found)
        # Values that differ by rounding alone would otherwise fill the frame with noise.
        room = max(padding * (high - low), 1e-3 * max(abs(low), abs(high)))
        if room < NOTHING:
            room = 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int, *, least_step: float = 0.0) -> list[tuple[float, str]]:
        """Round values inside the interval and their texts, roughly ``about`` of them."""
        raw = (self.high - self.low) / max(about, 1)
        magnitude = 10.0 ** math.floor(math.log10(raw))
        step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
        step = max(step, least_step)
        decimals = max(0, next(d for d in range(30) if math.isclose(step, round(step, d), rel_tol=1e-9)))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(k * step, f"{k * step:.{decimals}f}".replace("-", MINUS)) for k in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Frame:
    """The area of a plot inside a drawing: its two scales."""

    x: Scale
    y: Scale

    def axes(self, x_title: str, y_title: str, *, least_x_step: float = 0.0) -> Markup:
        """Grid, tick texts and titles; the vertical axis has its title above, level, where it can be read."""
        left, right = self.x.start, self.x.end
        bottom, top = self.y.start, self.y.end
        parts = [text(0, 13, y_title, class_="axis-title")]
        for value, label in self.y.ticks(int((bottom - top) / 55)):
            parts += [line(left, self.y(value), right, self.y(value), "grid")]
            parts += [text(left - 8, self.y(value) + 4, label, class_="tick", anchor="end")]
        for value, label in self.x.ticks(int((right - left) / 64), least_step=least_x_step):
            parts += [line(self.x(value), bottom, self.x(value), bottom + 5, "axis")]
            parts += [text(self.x(value), bottom + 19, label, class_="tick", anchor="middle")]
        parts += [line(left, bottom, right, bottom, "axis")]
        parts += [text(right, bottom + 38, x_title, class_="axis-title", anchor="end")]
        return join(parts)


MARGIN_TOP, MARGIN_BOTTOM, MARGIN_LEFT, MARGIN_RIGHT = 28.0, 46.0, 56.0, 12.0


def plot_area(width: float, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Pixels of the horizontal axis (left, right) and of the vertical one (bottom, top)."""
    return (MARGIN_LEFT, width - MARGIN_RIGHT), (height - MARGIN_BOTTOM, MARGIN_TOP)


def _text(value: str | float) -> str:
    """A coordinate to a hundredth of a pixel, without trailing zeros."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
