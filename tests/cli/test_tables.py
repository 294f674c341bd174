"""``hwnas tables``: what is printed, what is written, and the exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hwnas.cli.main import app
from hwnas.latency import LatencyTable, save_table, validate
from hwnas.latency.hygiene import Hygiene
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from tables import made_table


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own in a directory, below which it looks for tables."""
    command = [sys.executable, "-c", "from hwnas.cli.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def hwnas(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def saved(directory: Path, table: LatencyTable) -> Path:
    return save_table(table, directory)


@pytest.fixture
def table() -> LatencyTable:
    made = made_table()
    return made.model_copy(update={"validation": validate(made, get_space(made.space))})


def test_tables_that_agree_end_with_0_and_others_with_1(tmp_path: Path, table: LatencyTable) -> None:
    first = saved(tmp_path / "a", table)
    second = saved(tmp_path / "b", made_table(noise=0.002, scale=0.93))
    same = hwnas("tables", "diff", first, first)
    assert same.exit_code == 0, same.output
    assert "The tables agree within 0.5 %" in same.output
    other = hwnas("tables", "diff", first, second)
    assert other.exit_code == 1
    assert "The tables disagree within 0.5 %" in other.output
    assert "the median block differs by 0.00 %" in other.output
    assert hwnas("tables", "diff", first, second, "--within", "10").exit_code == 0


def test_a_difference_is_given_to_machines(tmp_path: Path, table: LatencyTable) -> None:
    first = saved(tmp_path / "a", table)
    second = saved(tmp_path / "b", table.model_copy(update={"blocks": table.blocks[2:], "arrival": "back-to-back"}))
    found = json.loads(hwnas("tables", "diff", first, second, "--json", "--largest", "3").output)
    assert found["agrees"] is True and found["within"] == 0.005 and found["differs"] == []
    assert found["blocks"]["common"] == len(table.blocks) - 2
    assert found["blocks"]["only_first"] == sorted(entry.block.key for entry in table.blocks[:2])
    assert len(found["networks"]["largest"]) == 3
    assert found["networks"]["p95"] == 0.0


@pytest.mark.parametrize("within", ["-1", "nan"])
def test_an_impossible_tolerance_is_refused(tmp_path: Path, table: LatencyTable, within: str) -> None:
    path = saved(tmp_path, table)
    refused = hwnas("tables", "diff", path, path, "--within", within)
    assert refused.exit_code == 2
    assert "--within takes a number of per cent from 0" in " ".join(refused.output.split())


def test_tables_of_different_spaces_are_refused_in_a_sentence(tmp_path: Path, table: LatencyTable) -> None:
    other = table.model_copy(update={"space": "mobilenet_v3/imagenet-w1.0", "num_classes": 1000})
    other = other.model_copy(update={"blocks": (), "networks": (), "resolutions": (128,)})
    refused = hwnas("tables", "diff", saved(tmp_path, table), saved(tmp_path, other))
    assert refused.exit_code == 2
    assert "only tables of the same space can be compared." in " ".join(refused.output.split())


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A directory in which the command has profiled this machine, and what it printed."""
    directory = tmp_path_factory.mktemp("profiled")
    return directory, profile(directory, "0.3")


def profile(directory: Path, minutes: str) -> dict[str, Any]:
    done = program("profile", "--minutes", minutes, "--resolutions", "24", "--json", cwd=directory)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


@pytest.mark.alone
def test_a_table_is_listed_and_shown(profiled: tuple[Path, dict[str, Any]]) -> None:
    directory, summary = profiled
    table = summary["table"]
    listed = program("tables", "list", cwd=directory)
    assert Path(table).name in listed.stdout.replace("\n", "")
    shown = program("tables", "show", table, cwd=directory)
    assert shown.returncode == 0, shown.stderr
    assert "cpu.model" in shown.stdout
    brief = json.loads(program("tables", "list", "--json", cwd=directory).stdout)
    assert [entry["space"] for entry in brief] == ["mobilenet_v3/small"]
    assert profile(directory, "0.3")["blocks"] >= summary["blocks"]


@pytest.mark.alone
def test_a_table_is_validated_on_this_machine(profiled: tuple[Path, dict[str, Any]]) -> None:
    directory, summary = profiled
    path = directory / summary["table"]
    before = path.read_bytes()
    validated = hwnas("tables", "validate", path, "--networks", "2", "--proposed", "2", "--json")
    assert validated.exit_code == 0, validated.output
    found = json.loads(validated.stdout.splitlines()[-1])
    assert found["written"] and path.read_bytes() != before
    assert found["validation"]["n"] == found["proposed"]["n"] == 2
    assert len(found["proposed"]["within_5pct_interval"]) == 2
    shown = hwnas("tables", "show", path)
    assert "2 networks proposed by a search" in shown.output


def test_a_stale_table_is_not_validated(tmp_path: Path, table: LatencyTable) -> None:
    refused = hwnas("tables", "validate", saved(tmp_path, table))
    assert refused.exit_code == 2
    assert "--allow-stale" in " ".join(refused.output.split())


def test_a_table_is_listed_and_shown_with_what_its_figures_are(tmp_path: Path, table: LatencyTable) -> None:
    path = saved(tmp_path, table)
    listed = hwnas("tables", "list", "--tables", tmp_path).output
    assert "measured, p50, capability (gated), back-to-back" in listed
    assert "% on 10 held-out networks" in listed
    shown = hwnas("tables", "show", path, "--resolution", "64").output
    assert "Blocks at 64 px, µs, p50, capability (gated); k: kernel, e: expansion" in shown
    assert "stage1.block2–4" in shown and "Spread between builds" in shown
    assert "10 held-out networks" in shown and "sum of blocks" in shown
    assert json.loads(hwnas("tables", "show", path, "--json").output)["schema"] == 1


def test_an_imported_table_says_so_and_what_was_refused_of_it(tmp_path: Path, table: LatencyTable) -> None:
    note = {"row_type": "conv-x", "rows": 7, "reason": "the mean is negative, zero or no number"}
    hygiene = {"rows": 40, "refused": (note,), "absent": ("stem",), "relative": True}
    stem = next(slot for slot in get_space(table.space).slots if slot.label == "stem")
    stems = {stem.build(resolution) for resolution in get_space(table.space).resolutions}
    imported = table.model_copy(
        update={
            "kind": "imported",
            "fast_states_ms": {},
            "validation": None,
            "blocks": tuple(entry for entry in table.blocks if entry.block not in stems),
            "hygiene": Hygiene.model_validate(hygiene),
        }
    )
    path = saved(tmp_path, imported)
    label = "imported, published mean, taken for the p50, back-to-back, 7 of 40 rows refused, 0 marked, relative"
    assert label in hwnas("tables", "list", "--tables", tmp_path).output
    shown = hwnas("tables", "show", path).output
    assert "conv-x" in shown and "This table is relative: it lacks stem" in shown
    assert "capability" not in shown


def test_a_table_of_whole_networks_alone_is_shown_without_a_picture(tmp_path: Path, table: LatencyTable) -> None:
    path = saved(tmp_path, table.model_copy(update={"blocks": ()}))
    shown = hwnas("tables", "show", path)
    assert shown.exit_code == 0
    assert "No block was measured alone" in shown.output


def test_a_resolution_that_the_space_does_not_have_is_refused(tmp_path: Path, table: LatencyTable) -> None:
    refused = hwnas("tables", "show", saved(tmp_path, table), "--resolution", "25")
    assert refused.exit_code == 2
    assert "has no 25 px; it has 24, 28" in " ".join(refused.output.split())
