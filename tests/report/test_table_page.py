"""The page of a latency table: the terminal's figures, whole in a browser, honest about what is missing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.latency import LatencyTable, save_table, validate
from hwnas.latency.hygiene import Hygiene, RowNote
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from tables import made_table

HOSTILE = "<script>alert(1)</script>"


def with_figures(table: LatencyTable) -> LatencyTable:
    return table.model_copy(update={"validation": validate(table, get_space(table.space))})


def page(table: LatencyTable, directory: Path) -> Path:
    path = directory / "table.html"
    done = CliRunner().invoke(app, ["tables", "show", str(save_table(table, directory)), "--html", str(path)])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def whole_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page(with_figures(made_table(share_of_blocks=0.6)), tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_the_page_is_whole(whole_page: Path, browser: Any, width: int, dark: bool) -> None:
    browser.open(whole_page, width, dark=dark)
    drawn = browser.evaluate(
        """[...document.querySelectorAll('figure')].map(figure => [...figure.querySelectorAll(':scope > svg')]
        .filter(svg => svg.getBoundingClientRect().width > 200).length)"""
    )
    assert drawn == [1, 1, 1]
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.requests == [whole_page.as_uri()]
    assert browser.complaints == []


def test_the_figures_of_the_table_stand_on_the_page(tmp_path: Path) -> None:
    table = with_figures(made_table())
    assert table.validation is not None
    text = page(table, tmp_path).read_text()
    assert f"{table.validation.mape:.3g}" in text
    assert f"{table.validation.kendall_tau:.3f}" in text
    for entry in table.blocks:
        assert entry.block.key in text
    assert "mean error (MAPE)" in text and "MACs alone" in text


def test_interpolated_blocks_are_marked(tmp_path: Path) -> None:
    whole = page(made_table(), tmp_path).read_text()
    assert not re.search(r"[1-9]\d* of\s+them interpolated", whole)
    part = page(made_table(share_of_blocks=0.5), tmp_path).read_text()
    assert re.search(r"[1-9]\d* of\s+them interpolated", part)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    table = made_table()
    bare = page(table.model_copy(update={"networks": table.with_role("calibration")}), tmp_path).read_text()
    assert "No network was held out" in bare
    networks = page(table.model_copy(update={"blocks": ()}), tmp_path).read_text()
    assert "No block was measured alone" in networks


def test_published_text_is_escaped_and_notes_are_shown(tmp_path: Path) -> None:
    table = made_table()
    hygiene = Hygiene(
        rows=5,
        refused=(RowNote(row_type=HOSTILE, rows=1, reason="zero time"),),
        absent=("stem",),
        relative=True,
    )
    stems = {slot.build(r) for slot in get_space(table.space).slots if slot.label == "stem" for r in table.resolutions}
    imported = table.model_copy(
        update={
            "kind": "imported",
            "hygiene": hygiene,
            "blocks": tuple(entry for entry in table.blocks if entry.block not in stems),
        }
    )
    text = page(imported, tmp_path).read_text()
    assert HOSTILE not in text and "zero time" in text
    assert "This table is relative: it lacks stem" in text


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    table = save_table(made_table(), tmp_path)
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, ["tables", "show", str(table), "--html", str(tmp_path / "file" / "page.html")])
    assert done.exit_code != 0 and "Traceback" not in done.output
    assert json.loads(table.read_text())  # untouched
