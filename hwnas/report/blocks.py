"""Figures of the winner's blocks, from input to output: how it is built and where its milliseconds go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from hwnas.report import svg
from hwnas.report.data import BlockTime, ReportData, Winner
from hwnas.report.figures import HALF_WIDE, NARROW
from hwnas.report.formats import NBSP, milliseconds, percent, shortened, significant
from hwnas.report.svg import Figure, LegendEntry, Scale
from hwnas.spaces import BlockSpec
from hwnas.spaces.operations import OPERATIONS

ROW = 36.0
"""Height of a block in both figures, so that they can be read side by side."""
TOP = 26.0
LABEL_LETTERS = 15
KERNEL_CLASSES = (1, 3, 5, 7)
ACTIVATIONS = {"relu": "ReLU", "relu6": "ReLU6", "h_swish": "h-swish"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Where things stand across a drawing of the network: the tower's axis and half width, the words."""

    width: float
    axis: float
    half: float
    words: float


WIDE_COLUMNS = Columns(HALF_WIDE, axis=215, half=88, words=325)
NARROW_COLUMNS = Columns(NARROW, axis=140, half=40, words=188)


def architecture_drawing(data: ReportData) -> Figure:
    """The winner as a tower: each block as wide as its channels, coloured by its kernel."""
    title = "The chosen architecture"
    blocks = data.winner.blocks
    if not blocks:
        return Figure("architecture", title, "The blocks of the winner were not recorded, so it cannot be drawn.")
    first, last = blocks[0].spec, blocks[-1].spec
    summary = (
        f"{len(blocks)} blocks from an input of {_shape(first.in_channels, first.in_height, first.in_width)} "
        f"to {last.out_channels} outputs; {sum(b.spec.se for b in blocks)} with squeeze-and-excite."
    )
    present = [k for k in KERNEL_CLASSES if any(_kernel_class(b.spec) == k for b in blocks)]
    legend = [
        LegendEntry(svg.tag("rect", x=0, y=2, width=16, height=12, class_=f"block k{k}"), f"{k}×{k} kernel")
        for k in present
    ]
    if any(b.spec.skip for b in blocks):
        legend.append(LegendEntry(svg.tag("path", d="M12 1 Q2 8 12 15", class_="skip"), "skip connection"))
    height = TOP + ROW * (len(blocks) + 1)
    wide, narrow = (
        svg.drawing(f"{title}: {summary}", c.width, height, *_tower(blocks, c), variant=variant)
        for variant, c in (("wide", WIDE_COLUMNS), ("narrow", NARROW_COLUMNS))
    )
    return Figure("architecture", title, summary, wide, narrow, tuple(legend))


def where_the_time_goes(data: ReportData) -> Figure:
    """A bar for each block of the winner, and one for what belongs to no block."""
    title = "Where the milliseconds go"
    bars = list(_bars(data.winner))
    if not bars:
        return Figure("blocks", title, "No latency is known block by block, so there are no bars to draw.")
    total = sum(ms for _, ms, _ in bars)
    label, ms, _ = max(bars, key=lambda bar: bar[1])
    costliest = f"; the costliest is {label} with {milliseconds(ms)}"
    summary = f"{milliseconds(total)} as the latency model shares them out{costliest}."
    height = TOP + ROW * len(bars) + 10
    wide, narrow = (
        svg.drawing(f"{title}: {summary}", width, height, *_bar_rows(bars, total, width), variant=variant)
        for variant, width in (("wide", HALF_WIDE), ("narrow", NARROW))
    )
    return Figure("blocks", title, summary, wide, narrow)


def words(spec: BlockSpec) -> tuple[str, str]:
    """A block in two short lines: its operation, and what it does inside."""
    stride = f", stride {spec.stride}" if spec.stride > 1 else ""
    kernel = "" if spec.classifies else f" {spec.kernel}×{spec.kernel}"
    inside = []
    if spec.classifies:
        inside.append(f"{spec.mid_channels or spec.in_channels} features")
    elif spec.mid_channels:
        inside.append(f"×{spec.mid_channels / max(spec.in_channels, 1):.3g}")
    inside += ["SE"] if spec.se else []
    inside += [ACTIVATIONS[spec.activation]] if spec.activation in ACTIVATIONS else []
    inside += ["skip"] if spec.skip else []
    return f"{OPERATIONS[spec.op].title}{kernel}{stride}", " · ".join(inside)


def _tower(blocks: Sequence[BlockTime], columns: Columns) -> Iterator[Markup]:
    widest = max(max(b.spec.in_channels, b.spec.mid_channels, b.spec.out_channels) for b in blocks)

    def half(channels: int) -> float:
        return max(columns.half * channels / max(widest, 1), 1.5)

    first, last = blocks[0].spec, blocks[-1].spec
    yield from _stages(blocks, columns)
    yield svg.text(
        columns.axis,
        TOP - 9,
        f"input {_shape(first.in_channels, first.in_height, first.in_width)}",
        class_="tick",
        anchor="middle",
    )
    for row, block in enumerate(blocks):
        spec, y = block.spec, TOP + ROW * row
        spoken = " · ".join(words(spec))
        yield svg.tag(
            "polygon",
            svg.tag("title", f"{block.label}: {spoken} · {_shape(*_output(spec))}"),
            points=svg.points(_silhouette(spec, y + 1.5, y + ROW - 1.5, columns.axis, half)),
            class_=f"block k{_kernel_class(spec)}",
        )
        if spec.skip:
            edge = columns.axis - max(half(spec.in_channels), half(spec.mid_channels)) - 1
            yield svg.tag("path", d=f"M{edge:.1f} {y + 2:.1f} q-9 {ROW / 2 - 2:.1f} 0 {ROW - 4:.1f}", class_="skip")
        yield _label(block.label, y + 15)
        yield svg.text(0, y + 29, _shape(*_output(spec)), class_="small")
        operation, inside = words(spec)
        yield svg.text(columns.words, y + 15, operation, class_="label")
        yield svg.text(columns.words, y + 29, inside, class_="small")
    y = TOP + ROW * len(blocks) + 16
    yield svg.text(columns.axis, y, f"output {last.out_channels}", class_="tick", anchor="middle")


def _stages(blocks: Sequence[BlockTime], columns: Columns) -> Iterator[Markup]:
    """A shade behind every second stage; the stage is the slot's label up to its dot."""
    row = 0
    for number, (_, members) in enumerate(groupby(blocks, key=lambda b: b.label.partition(".")[0])):
        rows = len(list(members))
        if number % 2 == 0:
            yield svg.tag("rect", x=0, y=TOP + ROW * row, width=columns.width, height=ROW * rows, class_="shade")
        row += rows


def _silhouette(
    spec: BlockSpec, top: float, bottom: float, axis: float, half: Callable[[int], float]
) -> Iterator[tuple[float, float]]:
    """The outline: input channels above, expanded channels between, output channels below."""
    ends = [(half(spec.in_channels), top)]
    if spec.mid_channels:
        middle = half(spec.mid_channels)
        ends += [(middle, top + 0.3 * (bottom - top)), (middle, bottom - 0.3 * (bottom - top))]
    ends.append((half(spec.out_channels), bottom))
    yield from ((axis + width, y) for width, y in ends)
    yield from ((axis - width, y) for width, y in reversed(ends))


def _bars(winner: Winner) -> Iterator[tuple[str, float, str]]:
    """Label, milliseconds and tooltip of each bar."""
    for block in winner.blocks:
        if block.ms is not None:
            yield block.label, block.ms, block.spec.key
    if winner.overhead_ms is not None:
        yield "whole network", winner.overhead_ms, "what the latency model gives to no single block"


def _bar_rows(bars: Sequence[tuple[str, float, str]], total: float, width: float) -> Iterator[Markup]:
    values = 104.0
    largest, least = max(ms for _, ms, _ in bars), min(ms for _, ms, _ in bars)
    low, high = min(least, 0.0), max(largest, 0.0)
    scale = Scale(low, high if high > low else low + 1.0, 100.0, width - values)
    yield svg.text(scale(0), TOP - 9, "0", class_="tick", anchor="middle")
    yield svg.text(width, TOP - 9, "ms, share", class_="axis-title", anchor="end")
    for row, (label, ms, tip) in enumerate(bars):
        y = TOP + ROW * row
        start, end = sorted((scale(0), scale(ms)))
        told = f"{label}: {milliseconds(ms)} · {tip}"
        class_ = "bar" if ms >= 0 else "bar below"
        yield svg.rectangle(start, y + 8, max(end - start, 0.5), ROW - 16, class_, told)
        yield _label(label, y + 22)
        yield svg.text(width - 42, y + 22, significant(ms), class_="label", anchor="end")
        yield svg.text(width, y + 22, _share(ms, total), class_="small", anchor="end")
    yield svg.line(scale(0), TOP, scale(0), TOP + ROW * len(bars), "axis")


def _label(label: str, y: float) -> Markup:
    """A slot's label at the left edge, cut to what fits, whole in its tooltip."""
    return svg.tag("text", svg.tag("title", label), shortened(label, LABEL_LETTERS), x=0, y=y, class_="label")


def _kernel_class(spec: BlockSpec) -> int:
    """The colour class: the largest of the known kernels that is not larger than the block's."""
    return max(k for k in KERNEL_CLASSES if k <= spec.kernel or k == 1)


def _output(spec: BlockSpec) -> tuple[int, int, int]:
    return spec.out_channels, spec.out_height, spec.out_width


def _shape(channels: int, height: int, width: int) -> str:
    return f"{channels}×{height}×{width}"


def _share(ms: float, total: float) -> str:
    """Share of the total; nothing where a negative or vanishing total makes it meaningless."""
    return percent(ms / total, 0) if total > 0 and abs(ms) <= total else f"{NBSP}"
