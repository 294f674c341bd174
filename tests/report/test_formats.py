"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwnas.report import formats
from hwnas.report.svg import Scale


def plain(text: str) -> str:
    return text.replace(formats.NBSP, " ").replace(formats.MINUS, "-")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.05123, "0.0512"),
        (0.9996, "1.00"),
        (3.1, "3.10"),
        (128.4, "128"),
        (-1.5, "-1.50"),
        (3.1e-6, "3.10·10⁻⁶"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert plain(formats.significant(value)) == text


@given(st.floats(1e-4, 9e8), st.integers(2, 6))
def test_significant_digits_are_as_many_as_promised(value: float, digits: int) -> None:
    assert float(formats.significant(value, digits)) == pytest.approx(value, rel=0.51 * 10 ** (1 - digits))


def test_units_and_absence() -> None:
    assert plain(formats.spread(0.391, 0.0021)) == "0.391 ± 0.002 ms"
    assert plain(formats.spread(128.0, 0.21)) == "128 ± 0.2 ms"
    assert formats.milliseconds(None) == formats.percent(None) == formats.size(None) == formats.ABSENT
    assert plain(formats.size(1_250_000)) == "1.25 MB"
    assert plain(formats.count(999_800)) == "1.00 M"
    assert plain(formats.count(12)) == "12"
    assert [plain(formats.duration(s)) for s in (0.84, 59.97, 134, 11_100)] == [
        "0.84 s",
        "1 min 00 s",
        "2 min 14 s",
        "3 h 05 min",
    ]
    assert plain(formats.points(-0.00001)) == "0.00 points"
    assert plain(formats.share(0.99, (0.9643, 0.9973))) == "99.0 % (96.4 to 99.7)"
    assert plain(formats.share(0.99, None)) == "99.0 %"
    assert formats.share(None, None) == formats.ABSENT


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e-3))
def test_two_times_are_told_apart(value: float, part: float) -> None:
    first, second = formats.apart(value, value * (1 + part))
    assert first != second


def test_nested_facts_become_rows() -> None:
    rows = formats.facts({"a": {"b": [1, 2], "c": []}, "d": [{"e": None}], "f": True, "g": {}})
    assert rows == [("a.b", "1, 2"), ("a.c", "none"), ("d.0.e", "unknown"), ("f", "yes"), ("g", "none")]


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), st.integers(1, 12))
@example([0.0], 5)
@example([0.0, 5e-324], 5)
def test_ticks_lie_inside_the_scale_and_are_few(values: list[float], about: int) -> None:
    scale = Scale.around(values, 50, 700)
    ticks = scale.ticks(about)
    assert len(ticks) <= about + 1
    assert len({text for _, text in ticks}) == len(ticks)
    for value, _ in ticks:
        assert 49 <= scale(value) <= 701
