"""The page in a real browser: nothing is complained of, nothing is fetched, everything is there and fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwnas.report import ReportData, write_report

FIGURES = ("confusion", "reliability", "plane", "progress", "agreement", "architecture", "blocks")
VISIBLE = """[...document.querySelectorAll('figure')].map(figure => [figure.id,
    [...figure.querySelectorAll(':scope > svg')].map(svg => svg.getBoundingClientRect())
        .filter(box => box.width > 200 && box.height > 100).length])"""
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('figure > svg text')]
    .filter(text => text.getBoundingClientRect().width > 0)
    .map(text => parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_the_page_is_whole(sample: ReportData, tmp_path: Path, browser: Any, width: int, dark: bool) -> None:
    path = tmp_path / "report.html"
    write_report(sample, path)
    browser.open(path, width, dark=dark)
    assert dict(browser.evaluate(VISIBLE)) == dict.fromkeys(FIGURES, 1)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(SMALLEST_TEXT) >= 11
    luminance = browser.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
    assert (luminance < 128) == dark
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []


def test_words_without_a_break_do_not_widen_the_page(sample: ReportData, tmp_path: Path, browser: Any) -> None:
    long = "W" * 300
    record = sample.model_dump()
    record |= {"run": long, "command": long, "warnings": (long,), "versions": {long: long}}
    record["asked"]["target"] = record["winner"]["network"]["name"] = record["winner"]["network"]["note"] = long
    record["device"]["identity"] = {long: long}
    record["winner"]["blocks"][0]["label"] = long
    path = tmp_path / "report.html"
    write_report(ReportData.model_validate(record), path)
    browser.open(path, 390)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_first_screen_of_a_telephone_answers(sample: ReportData, tmp_path: Path, browser: Any) -> None:
    path = tmp_path / "report.html"
    write_report(sample, path)
    browser.open(path, 390)
    bottom = browser.evaluate("document.querySelector('.tiles').getBoundingClientRect().bottom")
    assert bottom <= browser.evaluate("innerHeight")
