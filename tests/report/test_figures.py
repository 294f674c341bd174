"""What the figures say by their geometry."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from hwnas.report import ReportData
from hwnas.report.blocks import words
from hwnas.report.figures import BAND, ORDER_CLASSES, band_corners, order_class
from hwnas.report.svg import steps
from hwnas.spaces import BlockSpec

Point = tuple[float, float]


def inside(point: Point, corners: list[Point]) -> bool:
    """Whether a ray from the point crosses the outline an odd number of times."""
    x, y = point
    crossings = 0
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            crossings += 1
    return crossings % 2 == 1


@given(st.floats(-5, 20), st.floats(0.01, 30), st.floats(0, 1), st.floats(0, 1))
def test_a_point_is_in_the_band_exactly_when_its_error_is_within_ten_per_cent(
    low: float, extent: float, right: float, up: float
) -> None:
    high = low + extent
    assume(high > 0.01)
    measured, predicted = low + right * extent, low + up * extent
    margin = 1e-6 * (1 + abs(high))
    assume(min(measured - low, high - measured, predicted - low, high - predicted) > margin)
    error = abs(predicted - measured) - BAND * measured
    assume(abs(error) > margin)
    assert inside((measured, predicted), band_corners(low, high)) == (error < 0 < measured)


def test_colours_run_from_the_first_evaluation_to_the_last(sample: ReportData) -> None:
    candidates = sample.search.candidates
    classes = [int(order_class(candidate, candidates)[-1]) for candidate in candidates]
    assert classes == sorted(classes)
    assert set(classes) == set(range(ORDER_CLASSES))


def test_a_staircase_goes_along_before_it_goes_up() -> None:
    assert steps([(0.0, 9.0), (2.0, 5.0), (3.0, 1.0)]) == "0,9 2,9 2,5 3,5 3,1"


def test_a_block_in_words() -> None:
    spec = BlockSpec("mbconv", 16, 8, 8, 16, 64, kernel=5, se=True, activation="h_swish", skip=True)
    assert words(spec) == ("MBConv 5×5", "×4 · SE · h-swish · skip")
    head = BlockSpec("head", 192, 4, 4, 10, 256, activation="h_swish")
    assert words(head) == ("Pool, classify", "256 features · h-swish")
