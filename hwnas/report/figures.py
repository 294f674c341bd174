"""Scatter figures of a report: the accuracy-latency plane, the search's progress, predicted against measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from hwnas.report import svg
from hwnas.report.data import Candidate, Finalist, ReportData
from hwnas.report.formats import milliseconds, percent, shortened, spread
from hwnas.report.svg import Figure, Frame, LegendEntry, Scale

WIDE, NARROW = 720.0, 358.0
HALF_WIDE = 528.0
ORDER_CLASSES = 6
"""Colours from the first evaluation to the last: classes o0 … o5 of the style sheet."""
BAND = 0.10


def accuracy_latency_plane(data: ReportData) -> Figure:
    """Every evaluated candidate, the Pareto front, the budget, the finalists and the winner."""
    candidates, asked = data.search.candidates, data.asked
    title = "Accuracy against latency"
    if not candidates:
        return Figure("plane", title, "No candidate was evaluated, so there is no plane to draw.")
    by_id = {candidate.id: candidate for candidate in candidates}
    front = sorted((by_id[key] for key in data.search.front), key=lambda c: (c.predicted_ms, c.top1))
    summary = (
        f"{len(candidates)} evaluated candidates between {milliseconds(min(c.predicted_ms for c in candidates))} and "
        f"{milliseconds(max(c.predicted_ms for c in candidates))} and between "
        f"{percent(min(c.top1 for c in candidates))} and {percent(max(c.top1 for c in candidates))} validation "
        f"{asked.metric}; the budget is {milliseconds(asked.budget_ms)}."
    )

    def draw(width: float, height: float) -> Iterator[Markup]:
        horizontal, vertical = svg.plot_area(width, height)
        accuracies = [c.top1 for c in candidates] + [f.top1 for f in data.search.finalists]
        measured = [ms for finalist in data.search.finalists if (ms := _measured_ms(finalist, data)) is not None]
        frame = Frame(
            Scale.around([asked.budget_ms, *(c.predicted_ms for c in candidates), *measured], *horizontal),
            Scale.around([100 * top1 for top1 in accuracies], *vertical),
        )
        yield frame.axes(
            f"predicted {asked.statistic} latency on {shortened(asked.target, 20)}, ms", f"validation {asked.metric}, %"
        )
        yield from _budget_line(frame, asked.budget_ms)
        if front:
            stairs = [(frame.x(c.predicted_ms), frame.y(100 * c.top1)) for c in front]
            yield svg.tag("polyline", points=svg.steps(stairs), class_="front")
        yield from (
            svg.dot(frame.x(c.predicted_ms), frame.y(100 * c.top1), 4, order_class(c, candidates), _tooltip(c))
            for c in candidates
        )
        for finalist in data.search.finalists:
            yield from _finalist_marks(frame, finalist, data)
        winner = by_id.get(data.winner.id)
        if winner is not None:
            x, y = frame.x(winner.predicted_ms), frame.y(100 * winner.top1)
            yield svg.star(x, y, 10, "winner", f"winner · {_tooltip(winner)}")
            yield svg.text(x - 13, y - 9, "winner", class_="mark-label", anchor="end")

    legend = [*_order_legend(), LegendEntry(svg.line(0, 8, 16, 8, "front"), "Pareto front")]
    if data.search.finalists:
        legend.append(LegendEntry(svg.dot(8, 8, 6.5, "finalist"), "finalist, joined to its measured latency"))
    legend.append(LegendEntry(svg.line(8, 0, 8, 16, "budget"), "budget"))
    return drawn("plane", title, summary, draw, ((WIDE, 430), (NARROW, 330)), legend)


def search_progress(data: ReportData) -> Figure:
    """Validation accuracy of each evaluation and the best so far."""
    candidates, metric = data.search.candidates, data.asked.metric
    title = "Progress of the search"
    if not candidates:
        return Figure("progress", title, "No candidate was evaluated, so there is no progress to draw.")
    best: list[float] = []
    for candidate in candidates:
        best.append(max(candidate.top1, best[-1] if best else 0.0))
    first = best.index(best[-1])
    summary = (
        f"The best validation {metric} rose from {percent(best[0])} to {percent(best[-1])}, "
        f"reached at evaluation {candidates[first].index + 1} of {len(candidates)}."
    )

    def draw(width: float, height: float) -> Iterator[Markup]:
        horizontal, vertical = svg.plot_area(width, height)
        frame = Frame(
            Scale(candidates[0].index + 0.5, candidates[-1].index + 1.5, *horizontal),
            Scale.around([100 * c.top1 for c in candidates], *vertical),
        )
        yield frame.axes("evaluation", f"validation {metric}, %", least_x_step=1)
        stairs = [(frame.x(c.index + 1), frame.y(100 * top1)) for c, top1 in zip(candidates, best, strict=True)]
        yield svg.tag("polyline", points=svg.steps(stairs), class_="best")
        yield from (
            svg.dot(
                frame.x(c.index + 1),
                frame.y(100 * c.top1),
                3.5,
                order_class(c, candidates),
                f"evaluation {c.index + 1} · {percent(c.top1)} · {c.id}",
            )
            for c in candidates
        )

    legend = [*_order_legend(), LegendEntry(svg.line(0, 8, 16, 8, "best"), "best so far")]
    return drawn("progress", title, summary, draw, ((WIDE, 340), (NARROW, 300)), legend)


def predicted_against_measured(data: ReportData) -> Figure:
    """Held-out networks and finalists, with the line of identity and a band of ± 10 %."""
    held_out = [Network(n.id, n.measured_ms, n.predicted_ms, n.std_ms) for n in data.latency_model.held_out]
    finalists = [
        Network(f"finalist {f.id}", ms, f.predicted_ms, f.std_ms)
        for f in data.search.finalists
        if (ms := _measured_ms(f, data)) is not None
    ]
    return agreement({"held-out network": held_out, "finalist": finalists}, last="finalists")


class Network(NamedTuple):
    """A network that was both predicted and measured."""

    name: str
    measured_ms: float
    predicted_ms: float
    std_ms: float | None


def agreement(groups: Mapping[str, Sequence[Network]], last: str) -> Figure:
    """Predicted against measured latency of two groups, the second drawn as rings.

    ``groups`` are by what one of them is called, ``last`` is what several of the second are.
    """
    title = "Predicted against measured latency"
    (first_name, first), (second_name, second) = groups.items()
    networks = [*first, *second]
    if not networks:
        return Figure("agreement", title, "No held-out network was measured, so the prediction stands unchecked.")
    inside = sum(abs(n.predicted_ms - n.measured_ms) <= BAND * n.measured_ms for n in networks)
    summary = (
        f"{len(first)} held-out networks{f' and {len(second)} {last}' if second else ''}; "
        f"{inside} of {len(networks)} predictions lie within 10 % of what was measured."
    )
    values = [value for n in networks for value in (n.measured_ms, n.predicted_ms)]

    def draw(width: float, height: float) -> Iterator[Markup]:
        horizontal, vertical = svg.plot_area(width, height)
        frame = Frame(Scale.around(values, *horizontal), Scale.around(values, *vertical))
        band = svg.points((frame.x(x), frame.y(y)) for x, y in band_corners(frame.x.low, frame.x.high))
        yield svg.tag("polygon", points=band, class_="band")
        yield frame.axes("measured, ms", "predicted, ms")
        corners = [(frame.x(value), frame.y(value)) for value in (frame.x.low, frame.x.high)]
        yield svg.tag("polyline", points=svg.points(corners), class_="identity")
        for group, radius, class_ in ((first, 3.5, "held-out"), (second, 6.5, "finalist")):
            for n in group:
                yield svg.dot(frame.x(n.measured_ms), frame.y(n.predicted_ms), radius, class_, _agreement(n))

    legend = [
        LegendEntry(svg.dot(8, 8, 4, "held-out"), first_name),
        LegendEntry(svg.line(0, 16, 16, 0, "identity"), "equal"),
        LegendEntry(svg.tag("rect", x=0, y=2, width=16, height=12, class_="band"), "within 10 %"),
    ]
    if second:
        legend.insert(1, LegendEntry(svg.dot(8, 8, 6.5, "finalist"), second_name))
    return drawn("agreement", title, summary, draw, ((HALF_WIDE, 400), (NARROW, 330)), legend)


def order_class(candidate: Candidate, candidates: Sequence[Candidate]) -> str:
    """The colour class of a candidate by when it was evaluated."""
    return f"candidate o{ORDER_CLASSES * candidate.index // (candidates[-1].index + 1)}"


def band_corners(low: float, high: float) -> list[tuple[float, float]]:
    """The points (measured, predicted) within ± 10 % of each other, cut to the square [low, high]², high > 0."""
    start = max(low, 0.0)
    over, under = 1 + BAND, 1 - BAND
    leaves_top = max(start, high / over)
    enters_bottom = min(high, max(start, low / under))
    return [
        (start, max(under * start, low)),
        (start, min(over * start, high)),
        (leaves_top, high),
        (high, high),
        (high, max(under * high, low)),
        (enters_bottom, max(under * enters_bottom, low)),
    ]


def drawn(
    name: str,
    title: str,
    summary: str,
    draw: Callable[[float, float], Iterator[Markup]],
    sizes: tuple[tuple[float, float], tuple[float, float]],
    legend: Sequence[LegendEntry],
) -> Figure:
    """What ``draw`` draws of a width and a height, in the two ``sizes``: wide and narrow."""
    wide, narrow = (
        svg.drawing(f"{title}: {summary}", width, height, *draw(width, height), variant=variant)
        for variant, (width, height) in zip(("wide", "narrow"), sizes, strict=True)
    )
    return Figure(name, title, summary, wide, narrow, tuple(legend))


def _budget_line(frame: Frame, budget_ms: float) -> Iterator[Markup]:
    x = frame.x(budget_ms)
    at_left = x < (frame.x.start + frame.x.end) / 2
    yield svg.line(x, frame.y.start, x, frame.y.end, "budget")
    yield svg.text(
        x + (6 if at_left else -6),
        frame.y.start - 8,
        f"budget {milliseconds(budget_ms)}",
        class_="mark-label",
        anchor="start" if at_left else "end",
    )


def _finalist_marks(frame: Frame, finalist: Finalist, data: ReportData) -> Iterator[Markup]:
    """A ring at the prediction and a whisker from there to what was measured."""
    x, y = frame.x(finalist.predicted_ms), frame.y(100 * finalist.top1)
    measured = _measured_ms(finalist, data)
    told = f"finalist {finalist.id} · {percent(finalist.top1)} · predicted {milliseconds(finalist.predicted_ms)}"
    if measured is not None:
        reached = frame.x(measured)
        yield svg.line(x, y, reached, y, "whisker")
        yield svg.line(reached, y - 5, reached, y + 5, "whisker")
        told += f", measured {milliseconds(measured)}"
    yield svg.dot(x, y, 6.5, "finalist", told)


def _order_legend() -> list[LegendEntry]:
    ends = ((0, "evaluated early"), (ORDER_CLASSES - 1, "evaluated late"))
    return [LegendEntry(svg.dot(8, 8, 5, f"candidate o{position}"), name) for position, name in ends]


def _measured_ms(finalist: Finalist, data: ReportData) -> float | None:
    found = finalist.measured.figure(data.asked.statistic, data.asked.basis)
    return None if found is None else found[0]


def _tooltip(candidate: Candidate) -> str:
    origin = f" · {candidate.origin}" if candidate.origin else ""
    latency = spread(candidate.predicted_ms, candidate.std_ms)
    return f"evaluation {candidate.index + 1} · {percent(candidate.top1)} · {latency} · {candidate.id}{origin}"


def _agreement(n: Network) -> str:
    error = percent(n.predicted_ms / n.measured_ms - 1, 1)
    return f"{n.name} · measured {milliseconds(n.measured_ms)}, predicted {spread(n.predicted_ms, n.std_ms)} ({error})"
