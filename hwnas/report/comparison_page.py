"""The page of a comparison of engines: which is faster, by how much, and how near each is to what the device can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from markupsafe import Markup

from hwnas.files import write_atomic
from hwnas.report import formats, svg
from hwnas.report.comparison_data import ComparisonData, EngineFigures, Latencies, Scenario
from hwnas.report.figures import NARROW, WIDE
from hwnas.report.formats import ABSENT, NBSP, milliseconds, percent, ratio, significant
from hwnas.report.page import template
from hwnas.report.roofline_figure import roofline
from hwnas.report.svg import Figure, LegendEntry, Scale
from hwnas.report.tables import AS_IT_RAN, CAPABILITY, Grid, beside
from hwnas.report.verdict import Tile

_ROW, _LABELS, _NARROW_LABELS = 34.0, 170.0, 96.0
_FOOT = 46.0


def write_comparison_page(data: ComparisonData, path: Path) -> None:
    """Write the page to ``path``, whole or not at all.

    Raises:
        UserError: the file cannot be written, or the disk is full.
    """
    write_atomic(path, render_comparison(data))


def render_comparison(data: ComparisonData) -> str:
    """The page as HTML text."""
    return template("comparison.html").render(
        data=data,
        warnings=(),
        lead=_lead(data),
        tiles=_tiles(data),
        ratios=_ratios(data),
        roofline=roofline(data.engines, data.roofs),
        latencies=_latencies(data),
        scenarios=_scenarios(data),
        notes=_notes(data),
        roofs=_roofs(data),
        identity=formats.facts(data.identity),
    )


def _lead(data: ComparisonData) -> str:
    if len(data.engines) == 1:
        return f"Measured on {formats.moment(data.created)} in {data.rounds} rounds."
    return (
        f"Measured on {formats.moment(data.created)} in {data.rounds} rounds, in each of which every engine was timed "
        f"in turn. Ratios are to {data.engines[0].name}, round by round, so that they do not depend on what the "
        "machine did between rounds."
    )


def _tiles(data: ComparisonData) -> list[Tile]:
    return [
        Tile(engine.name, milliseconds(_p50(engine)), f"p50; {_against_first(data, engine)}") for engine in data.engines
    ]


def _p50(engine: EngineFigures) -> float | None:
    return engine.gated.p50_ms if engine.gated.p50_ms is not None else engine.ungated.p50_ms


def _against_first(data: ComparisonData, engine: EngineFigures) -> str:
    if engine is data.engines[0]:
        return "the others' yardstick" if len(data.engines) > 1 else f"{engine.runtime} {engine.precision}"
    interval = "" if engine.ratio_interval is None else " ({} to {})".format(*map(significant, engine.ratio_interval))
    return f"{ratio(engine.ratio)}{interval} the time of {data.engines[0].name}"


def _ratios(data: ComparisonData) -> Figure:
    """A line for each engine but the first: each round's ratio, their median and its interval."""
    title = f"Time against {data.engines[0].name}"
    others = data.engines[1:]
    if not others:
        return Figure("ratios", title, "There is no other engine to compare it with.")
    summary = "; ".join(f"{engine.name}: {_against_first(data, engine)}" for engine in others) + "."

    def draw(width: float, labels: float) -> Iterator[Markup]:
        scale = Scale.around([1.0, *(value for engine in others for value in engine.ratios)], labels, width - 12)
        bottom = _ROW * len(others) + 8
        for value, text in scale.ticks(int((width - labels) / 80)):
            yield svg.line(scale(value), 0, scale(value), bottom, "grid")
            yield svg.text(scale(value), bottom + 17, f"{text}×", class_="tick", anchor="middle")
        yield svg.line(scale(1.0), 0, scale(1.0), bottom, "budget")
        for number, engine in enumerate(others):
            y = _ROW * (number + 0.5) + 4
            yield svg.text(0, y + 4, formats.shortened(engine.name, int(labels / 7.5)), class_="label")
            if engine.ratio_interval is not None:
                low, high = map(scale, engine.ratio_interval)
                yield svg.line(low, y, high, y, "whisker")
            for value in engine.ratios:
                yield svg.dot(scale(value), y, 3, "held-out", f"{engine.name}, one round: {ratio(value)}")
            yield svg.dot(scale(engine.ratio), y, 5, "winner", f"{engine.name}: {ratio(engine.ratio)}")

    height = _ROW * len(others) + _FOOT
    wide, narrow = (
        svg.drawing(f"{title}: {summary}", width, height, *draw(width, labels), variant=variant)
        for variant, width, labels in (("wide", WIDE, _LABELS), ("narrow", NARROW, _NARROW_LABELS))
    )
    legend = (
        LegendEntry(svg.dot(8, 8, 3, "held-out"), "one round"),
        LegendEntry(svg.dot(8, 8, 5, "winner"), "median, and its 95 % interval"),
        LegendEntry(svg.line(8, 0, 8, 16, "budget"), "equally fast"),
    )
    return Figure("ratios", title, summary, wide, narrow, legend)


def _latencies(data: ComparisonData) -> Grid:
    def of(gated: bool, pick: Callable[[Latencies], float | None]) -> Callable[[EngineFigures], str]:
        return lambda engine: milliseconds(pick(engine.gated if gated else engine.ungated))

    def of_others(cell: Callable[[EngineFigures], str]) -> Callable[[EngineFigures], str]:
        return lambda engine: ABSENT if engine is data.engines[0] else cell(engine)

    quantities: tuple[tuple[str, Callable[[EngineFigures], str]], ...] = (
        ("runtime", lambda e: e.runtime),
        ("precision", lambda e: e.precision),
        ("batch, threads", lambda e: f"{e.batch}, {e.threads}"),
        (f"p50, {CAPABILITY}", of(True, lambda found: found.p50_ms)),
        (f"p90, {CAPABILITY}", of(True, lambda found: found.p90_ms)),
        (f"p99, {CAPABILITY}", of(True, lambda found: found.p99_ms)),
        (f"samples, {CAPABILITY}", lambda e: str(e.gated.samples)),
        (f"p50, {AS_IT_RAN}", of(False, lambda found: found.p50_ms)),
        (f"p90, {AS_IT_RAN}", of(False, lambda found: found.p90_ms)),
        (f"p99, {AS_IT_RAN}", of(False, lambda found: found.p99_ms)),
        (f"samples, {AS_IT_RAN}", lambda e: str(e.ungated.samples)),
        ("time against the first", of_others(lambda e: ratio(e.ratio))),
        ("its 95 % interval", of_others(_interval)),
        ("ratios are of", of_others(lambda e: CAPABILITY if e.ratio_gated else AS_IT_RAN)),
        ("images, back to back", lambda e: formats.per_second(e.images_per_s)),
        ("copies in and out", lambda e: milliseconds(e.transfers_ms)),
        ("build", lambda e: formats.duration(e.build_s)),
        ("ONNX file", lambda e: formats.size(e.onnx_bytes)),
        ("engine", lambda e: formats.size(e.engine_bytes)),
        ("peak memory", lambda e: formats.mebibytes(e.peak_memory_mib)),
        ("of it the engine's", lambda e: formats.mebibytes(e.engine_memory_mib)),
        ("multiply-accumulates", lambda e: ABSENT if e.roofline is None else formats.count(e.roofline.operations / 2)),
        ("operations a byte", lambda e: ABSENT if e.roofline is None else significant(e.roofline.intensity)),
        ("share of the attainable", _share),
    )
    return beside("Every figure", [(engine.name, engine) for engine in data.engines], quantities)


def _interval(engine: EngineFigures) -> str:
    return ABSENT if engine.ratio_interval is None else f"{NBSP}to{NBSP}".join(map(ratio, engine.ratio_interval))


def _share(engine: EngineFigures) -> str:
    if engine.roofline is None or engine.roofline.share is None:
        return ABSENT
    return f"{percent(engine.roofline.share, 0)}, by {engine.roofline.bound_by}"


def _scenarios(data: ComparisonData) -> Grid:
    ran = [(engine.name, engine.scenario) for engine in data.engines if engine.scenario is not None]
    quantities: tuple[tuple[str, Callable[[Scenario], str]], ...] = (
        ("scenario", lambda s: s.name),
        ("queries generated by", lambda s: s.generator),
        ("queries", lambda s: str(s.queries)),
        ("samples", lambda s: formats.count(s.samples)),
        ("duration", lambda s: formats.duration(s.seconds)),
        ("samples a second", lambda s: formats.per_second(round(s.samples_per_s, 1))),
        ("percentile", lambda s: ABSENT if s.percentile_ms is None else f"p{100 * s.percentile:g}"),
        ("queries' time at it", lambda s: milliseconds(s.percentile_ms)),
        ("at most, by early stopping", lambda s: milliseconds(s.bound_ms)),
        ("energy a sample", _energy),
        ("valid by its own rules", lambda s: "no" if s.invalid else "yes"),
    )
    return beside("MLPerf's scenario", ran, quantities)


def _notes(data: ComparisonData) -> list[str]:
    """What is said of scenarios in words, each once."""
    notes: dict[str, None] = {}
    for engine in data.engines:
        if (ran := engine.scenario) is not None:
            told = f"Energy is not told: {ran.energy_missing}." if ran.joules_per_sample is None else ""
            included = "" if ran.joules_per_sample is None else "Energy is of the whole device, idle draw included."
            differs = f"Not as MLPerf's own rules have it: {ran.differs}." if ran.differs else ""
            invalid = f"The run of {engine.name} is not valid: {'; '.join(ran.invalid)}." if ran.invalid else ""
            notes |= dict.fromkeys(note for note in (told, included, differs, invalid) if note)
    return list(notes)


def _energy(scenario: Scenario) -> str:
    if scenario.joules_per_sample is None:
        return "not told"
    return f"{significant(1e3 * scenario.joules_per_sample)}{NBSP}mJ ({', '.join(scenario.energy_of)})"


def _roofs(data: ComparisonData) -> Grid:
    rows = tuple(
        (
            roof.precision,
            ABSENT if roof.operations_per_s is None else f"{formats.count(roof.operations_per_s)}op/s",
            roof.product or ABSENT,
            ABSENT if roof.bytes_per_s is None else f"{formats.count(roof.bytes_per_s)}B/s",
            f"{significant(roof.copy_mib)}{NBSP}MiB",
            roof.reason or "",
        )
        for roof in data.roofs
    )
    heads = ("precision", "arithmetic", "by", "memory", "by a copy of", "")
    return Grid("Roofs of the device, measured in the same run", heads, rows)
