"""The picture of a table in the terminal: its numbers, marks and colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.cli.picture import BARS, HEAT, INTERPOLATED, heat_map, picture, sparklines
from hwnas.latency.overview import BlockMap


def block_map(ms: object, measured: object = True, choices: tuple[str, ...] = ("kernel",)) -> BlockMap:
    times = np.array(ms, np.float64)
    rows, columns, resolutions = times.shape
    return BlockMap(
        choices=choices,
        columns=tuple((2 * j + 3,) for j in range(columns)) if choices else ((),),
        resolutions=tuple(range(24, 24 + resolutions)),
        labels=tuple(f"stage{i + 1}" for i in range(rows)),
        ms=times,
        std_ms=np.zeros_like(times),
        measured=np.broadcast_to(np.array(measured), times.shape),
    )


def test_cells_hold_the_times_and_colours_go_from_the_fastest_to_the_slowest() -> None:
    lines = list(heat_map(block_map([[[0.001], [0.0316], [0.9991]]]), 24, "p50"))
    assert lines[0].plain == "Blocks at 24 px, µs, p50; k: kernel"
    assert lines[1].plain.split() == ["k3", "k5", "k7"]
    assert lines[2].plain.split() == ["stage1", "1.00", "31.6", "999"]
    colours = [str(span.style).split()[-1] for span in lines[2].spans]
    assert colours[0] == HEAT[0] and colours[-1] == HEAT[-1] and colours[1] == HEAT[len(HEAT) // 2]
    assert INTERPOLATED not in lines[3].plain


def test_interpolated_cells_are_marked_without_colour_too_and_unknown_ones_are_dashes() -> None:
    measured = [[[True], [False], [False]]]
    lines = list(heat_map(block_map([[[1.0], [2.0], [np.nan]]], measured), 24, "p50"))
    assert lines[2].plain.split() == ["stage1", "1.00", "~2.00", "–"]
    assert "~: interpolated" in lines[3].plain


def test_a_map_of_which_nothing_is_known_says_so() -> None:
    assert [line.plain for line in heat_map(block_map([[[np.nan]]]), 24, "p50")] == ["No block is known at 24 px."]
    assert "nothing is known" in list(sparklines([block_map([[[np.nan]]])]))[-1].plain


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=12))
def test_a_sparkline_is_as_high_as_the_times_are(times: list[float]) -> None:
    *_, line = sparklines([block_map([[times]])])
    bars = line.plain.split()[1]
    assert len(bars) == len(times)
    heights = [BARS.index(bar) for bar in bars]
    assert heights[int(np.argmax(times))] == len(BARS) - 1
    order = np.argsort(times, kind="stable")
    assert sorted(heights) == [heights[i] for i in order]


def test_resolutions_that_were_not_measured_are_marked() -> None:
    lines = list(sparklines([block_map([[[1.0, 2.0, 3.0]]], [[[True, False, True]]])]))
    assert lines[1].plain.split()[0] == f"▪{INTERPOLATED}▪"
    assert len(list(sparklines([block_map([[[1.0, 2.0, 3.0]]])]))) == 2


@pytest.mark.parametrize("choices", [("kernel",), ()])
def test_only_places_with_choices_have_a_heat_map(choices: tuple[str, ...]) -> None:
    lines = [line.plain for line in picture([block_map([[[1.0, 2.0]]], choices=choices)], 24, "p50")]
    assert any(line.startswith("Blocks at") for line in lines) == bool(choices)
    assert lines[-1].startswith("stage1")
