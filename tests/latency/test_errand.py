"""A profile without a host: a plan goes to the agent as a file, results come back, and are a table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices import MeasureOptions, load_target
from hwnas.devices.zipapp import agent_zipapp
from hwnas.errors import BadFileError, DeviceError, HwnasError, UserError
from hwnas.latency import ProfileOptions, save_table
from hwnas.latency.errand import HELD_OUT, import_errand, write_errand
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
OPTIONS = ProfileOptions(
    resolutions=(24,),
    networks_only=6,
    validation_networks=2,
    builds=1,
    network_builds=2,
    network_protocol=MeasureOptions(min_samples=4, max_seconds=1.0, gate=False),
)


def run_agent(directory: Path, plan: str) -> subprocess.CompletedProcess[bytes]:
    """As a person does on the board: nothing of hwnas is installed there."""
    (directory / "hwnas-agent.pyz").write_bytes(agent_zipapp())
    command = [sys.executable, "-I", "hwnas-agent.pyz", "profile", plan]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the agent said of a plan, one of whose models is missing and one damaged."""
    directory = tmp_path_factory.mktemp("errand")
    plan = json.loads(write_errand(load_target("host-cpu"), SPACE, OPTIONS, directory / "plan.json").model_dump_json())
    assert len(plan["units"]) == 16
    assert [unit["unit"] for unit in plan["units"][:8]] == [unit["unit"] for unit in plan["units"][8:]]
    missing, damaged = plan["units"][0], plan["units"][1]
    plan["units"] += [{**missing, "sha256": "0" * 64}, {**damaged, "sha256": "1" * 64}]
    plan["models"]["1" * 64] = plan["models"][damaged["sha256"]]
    (directory / "plan.json").write_text(json.dumps(plan))
    done = run_agent(directory, "plan.json")
    assert done.returncode == 0, done.stderr
    assert b"18 of 18" in done.stderr
    (directory / "results.jsonl").write_bytes(done.stdout)
    return directory / "results.jsonl"


def test_results_are_the_table_that_a_profile_makes(results: Path, tmp_path: Path) -> None:
    (table,) = import_errand(results, tmp_path)
    assert (table.target, table.space, table.kind) == ("host-cpu", "mobilenet_v3/small", "measured")
    assert len(table.networks) == 8
    assert all(network.builds == 2 for network in table.networks)
    assert table.missing.calibration == table.missing.validation == 0
    assert table.hygiene is not None and "without a host" in table.hygiene.marked[0].reason
    errors = [record["error"] for record in map(json.loads, results.read_text().splitlines()[1:-1])]
    assert errors[:16] == [None] * 16
    assert "lacks its model" in errors[16] and "hashes to" in errors[17]
    save_table(table, tmp_path)
    with pytest.raises(UserError, match="is there already"):
        import_errand(results, tmp_path)
    (other,) = import_errand(results, tmp_path, target="board-7")
    assert other.target == "board-7"


def test_results_that_end_early_are_a_table_with_more_missing(results: Path, tmp_path: Path) -> None:
    lines = results.read_text().splitlines(keepends=True)
    (tmp_path / "results.jsonl").write_text("".join(lines[:8]) + lines[8][:100])
    (table,) = import_errand(tmp_path / "results.jsonl", tmp_path)
    assert len(table.networks) == 7


def no_head(lines: list[Any]) -> None:
    del lines[0]


def no_measurement(lines: list[Any]) -> None:
    lines[1:-1] = [{**line, "measurement": None, "error": "no such runtime"} for line in lines[1:-1]]


def other_space(lines: list[Any]) -> None:
    lines[0]["asked"]["space"] = "no/space"


def negative(lines: list[Any]) -> None:
    lines[1]["measurement"]["samples_ns"][0] = "fast"


def scalar(lines: list[Any]) -> None:
    lines[2] = 7


def other_device(lines: list[Any]) -> None:
    lines[-1]["fingerprint"]["identity"]["runtime"]["version"] = "0"


def other_options(lines: list[Any]) -> None:
    lines[0]["asked"]["options"]["builds"] = "many"


@pytest.mark.parametrize(
    ("damage", "error", "sentence"),
    [
        (no_head, BadFileError, "field"),
        (no_measurement, UserError, "hold no measurement .no such runtime"),
        (other_space, UserError, "no/space"),
        (negative, BadFileError, "samples_ns"),
        (scalar, BadFileError, "found 7"),
        (other_device, DeviceError, "changed while it was measured"),
        (other_options, BadFileError, "builds"),
        (list.clear, BadFileError, "found None"),
    ],
)
def test_results_that_cannot_be_believed_are_refused(
    results: Path, tmp_path: Path, damage: Callable[[list[Any]], None], error: type[HwnasError], sentence: str
) -> None:
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    damage(lines)
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(error, match=sentence):
        import_errand(tmp_path / "results.jsonl", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [(None, "No such file"), ("{", "not JSON"), ("[]", "no plan"), ('{"schema": 2, "kind": "agent-plan"}', "no plan")],
)
def test_a_wrong_plan_is_one_sentence(tmp_path: Path, plan: str | None, sentence: str) -> None:
    if plan is not None:
        (tmp_path / "plan.json").write_text(plan)
    done = run_agent(tmp_path, "plan.json")
    assert done.returncode == 1
    assert sentence in done.stderr.decode() and b"Traceback" not in done.stderr
    assert not done.stdout


def test_a_plan_carries_what_fits_on_a_stick(tmp_path: Path) -> None:
    errand = write_errand(load_target("host-cpu"), SPACE, ProfileOptions(networks_only=5, minutes=1.0), tmp_path / "p")
    assert errand.seconds == 60.0
    assert len({unit["unit"] for unit in errand.units}) == HELD_OUT + 5
    large = get_space("mobilenet_v3/imagenet-w1.2")
    with pytest.raises(UserError, match=r"more than 512 MiB"):
        write_errand(load_target("host-cpu"), large, ProfileOptions(networks_only=40), tmp_path / "large")
