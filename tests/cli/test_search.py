"""``hwnas search`` with a table of a device that is not at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hwnas.cli.main import app
from hwnas.latency import save_table
from hwnas.latency.hygiene import Hygiene
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from tables import made_table


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """A published table that lacks the stem, of a phone."""
    table = made_table(networks=0, validation=0)
    stem = next(slot for slot in get_space(table.space).slots if slot.label == "stem")
    stems = {stem.build(resolution) for resolution in get_space(table.space).resolutions}
    changes = {
        "kind": "imported",
        "target": "phone",
        "fast_states_ms": {},
        "blocks": tuple(entry for entry in table.blocks if entry.block not in stems),
        "hygiene": Hygiene.model_validate({"rows": 40, "absent": ("stem",), "relative": True}),
    }
    return save_table(table.model_copy(update=changes), tmp_path)


def search(table: Path, *arguments: str) -> Result:
    given = ["search", "--table", str(table), "--out", str(table.parent / "search"), "--evaluations", "1", *arguments]
    return CliRunner().invoke(app, given)


def test_an_imported_table_is_searched_without_its_device_and_said_to_be_relative(imported: Path) -> None:
    found = search(imported, "--budget", "0.1", "--confidence", "0.5", "--json")
    assert found.exit_code == 0, found.output
    assert "This table is relative: it lacks stem" in found.stderr
    document = json.loads(found.stdout)
    assert document["relative"] is True and len(document["evaluations"]) == 1
    header = json.loads((imported.parent / "search" / "search.json").read_text())
    assert header["budget"]["target"] == "phone"


def test_a_budget_over_an_emulated_table_is_said_to_be_no_promise_before_anything_else(tmp_path: Path) -> None:
    table = save_table(made_table().model_copy(update={"kind": "emulated"}), tmp_path)
    found = search(table, "--budget", "0.1", "--confidence", "0.5", "--allow-stale", "--json")
    assert found.exit_code == 0, found.output
    assert found.stderr.splitlines()[0].startswith("The latency table is emulated: its times are an emulator's")
    assert json.loads(found.stdout)["kind"] == "emulated"


def test_a_budget_over_another_device_s_table_is_said_to_be_no_promise_for_this_one(tmp_path: Path) -> None:
    table = save_table(made_table(), tmp_path)
    refused = search(table, "--budget", "0.1", "--confidence", "0.5")
    assert refused.exit_code == 2 and "was measured on another device than target 'host-cpu' is now" in refused.stderr
    found = search(table, "--budget", "0.1", "--confidence", "0.5", "--allow-stale")
    assert found.exit_code == 0, found.output
    told = found.stderr.splitlines()[0]
    assert told.startswith(f"Latency table {table} was measured on another device") and "no promise for this" in told


@pytest.mark.parametrize("other", [("--statistic", "p99"), ("--fps", "30")])
def test_an_imported_table_knows_no_other_statistic_or_arrival(imported: Path, other: tuple[str, str]) -> None:
    found = search(imported, "--budget", "0.1", *other)
    assert found.exit_code == 2
    assert "knows p50 of runs back to back alone" in " ".join(found.output.split())


def test_a_budget_that_nothing_keeps_by_an_imported_table_is_refused_by_prediction(imported: Path) -> None:
    found = search(imported, "--budget", "0.001")
    assert found.exit_code != 0
    assert "ms by prediction" in " ".join(found.output.split())
