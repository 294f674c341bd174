"""The page of a comparison: complete, escaped, and whole in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hwnas.report.comparison_data import ComparisonData, EngineFigures, Latencies, Roof, Scenario, UnderRoof
from hwnas.report.comparison_page import render_comparison, write_comparison_page
from hwnas.report.roofline_figure import roofline

HOSTILE = "<script>alert(1)</script>"


def engine(name: str, ratio: float, precision: str = "fp32", **others: Any) -> EngineFigures:
    times = Latencies(samples=700, p50_ms=0.4 * ratio, p90_ms=0.5 * ratio, p99_ms=0.7 * ratio)
    work = {"operations": 26_000_000, "bytes": 8_000_000, "intensity": 3.25}
    under = UnderRoof(**work, operations_per_s=6.5e10 / ratio, attainable=9e10, share=0.72 / ratio, bound_by="memory")
    scenario = Scenario(
        name="single-stream",
        generator="LoadGen 6.0.17",
        queries=1200,
        samples=1200,
        seconds=10.0,
        percentile=0.9,
        percentile_ms=0.6,
        bound_ms=0.61,
        samples_per_s=120.0,
        joules_per_sample=0.004,
        energy_of=("VDD_IN",),
        energy_missing=None,
        invalid=(),
        differs="10 s in place of 600 s",
    )
    usual = EngineFigures(
        name=name,
        runtime="onnxruntime",
        precision=precision,
        batch=1,
        threads=1,
        gated=times,
        ungated=times,
        images_per_s=2500.0,
        ratio=ratio,
        ratio_interval=(0.97 * ratio, 1.02 * ratio),
        ratio_gated=True,
        ratios=tuple(ratio * factor for factor in (0.96, 0.99, 1.0, 1.01, 1.03)),
        transfers_ms=0.003,
        onnx_bytes=1_700_000,
        engine_bytes=1_800_000,
        build_s=0.02,
        peak_memory_mib=68.0,
        engine_memory_mib=17.0,
        roofline=under,
        roofline_missing=None,
        scenario=scenario,
    )
    return usual.model_copy(update=others)


def data(*engines: EngineFigures) -> ComparisonData:
    roof = Roof(
        precision="fp32", operations_per_s=1.13e11, product="Gemm 384", bytes_per_s=2.8e10, copy_mib=64.0, reason=None
    )
    return ComparisonData(
        target="host-cpu",
        created=datetime(2026, 11, 26, 9, tzinfo=UTC),
        rounds=5,
        engines=engines,
        roofs=(roof,),
        identity={"cpu": {"model": "AMD EPYC"}},
    )


SAMPLE = data(engine("fp32", 1.0), engine("int8", 0.6, "int8"), engine("other", 1.4))


def test_every_engine_and_figure_is_there() -> None:
    text = render_comparison(SAMPLE)
    for words in ("int8", "0.600×", "LoadGen 6.0.17", "4.00\N{NO-BREAK SPACE}mJ", "VDD_IN", "10 s in place of 600 s"):
        assert words in text
    assert "of the whole device, idle draw included" in text


def test_one_engine_alone_is_a_page_too() -> None:
    text = render_comparison(data(engine("one", 1.0, scenario=None, roofline=None)))
    assert "There is no other engine to compare it with." in text
    assert "No scenario was run" in text
    assert "Nothing can be drawn" in text


def test_what_is_not_known_is_said_and_not_drawn() -> None:
    scenario = SAMPLE.engines[0].scenario
    assert scenario is not None
    blind = scenario.model_copy(
        update={"joules_per_sample": None, "energy_missing": "no monitor", "invalid": ("3 queries of at least 64",)}
    )
    text = render_comparison(data(engine("a", 1.0, scenario=blind, ratio_interval=None)))
    assert "Energy is not told: no monitor." in text
    assert "The run of a is not valid: 3 queries of at least 64." in text
    missing = SAMPLE.roofs[0].model_copy(update={"bytes_per_s": None, "reason": "it was refused"})
    assert roofline(SAMPLE.engines, [missing]).summary == "Nothing can be drawn: it was refused."


def test_names_are_escaped() -> None:
    assert HOSTILE not in render_comparison(data(engine(HOSTILE, 1.0), engine(f"2{HOSTILE}", 2.0)))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_whole_in_a_browser(tmp_path: Path, browser: Any, width: int, dark: bool) -> None:
    path = tmp_path / "page.html"
    write_comparison_page(SAMPLE, path)
    browser.open(path, width, dark=dark)
    visible = """[...document.querySelectorAll('figure > svg')].map(svg => svg.getBoundingClientRect())
        .filter(box => box.width > 200 && box.height > 60).length"""
    assert browser.evaluate(visible) == 2
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []
