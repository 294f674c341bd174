"""The whole way on this machine, killed in the middle and gone on with."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hwnas.files import read_json_lines

pytestmark = pytest.mark.alone

PROGRAM = [sys.executable, str(Path(__file__).with_name("few_images.py"))]
COMMAND = [*PROGRAM, "run", "--name", "test"]
# The confidence leaves a margin, since so short a profile on a busy machine knows little.
QUICK = ["--minutes", "0.4", "--evaluations", "6", "--finalists", "2", "--builds", "2", "--confidence", "0.999"]


UNSTABLE = ("log.txt", "config.json", ".lock")
"""Files that every start writes anew, to the same content or further."""


def command(runs: Path, *arguments: str) -> list[str]:
    return [*COMMAND, *QUICK, "--runs", str(runs), "--json", *arguments]


def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return os.environ | {"HOME": str(home), "OMP_NUM_THREADS": "1"}


def finish(arguments: Sequence[str], env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return summary


def kill_when(arguments: Sequence[str], env: dict[str, str], log: Path, text: str, delay_s: float) -> None:
    """Start the run, wait until its log holds ``text``, and some more, and kill it."""
    process = subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (log.exists() and text in log.read_text()):
        time.sleep(0.05)
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"the run had ended by itself before the kill in '{text}'"


def candidates(run: Path, where: str = "search/*") -> list[str]:
    (log,) = run.glob(f"{where}/evaluations.jsonl")
    return [json.dumps(line["architecture"]) for line in read_json_lines(log)]


def journals(run: Path) -> dict[Path, list[bytes]]:
    """The whole lines of every log in which a step keeps what it has done."""
    logs = [path for path in run.rglob("*.jsonl") if "nni" not in path.parts]
    return {path: path.read_bytes().split(b"\n")[:-1] for path in logs}


@pytest.fixture(scope="module")
def broken_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """A run that was killed in three steps, at random moments, and ended by the same command.

    After each kill, and at the end, what was on disk before must still be there, as the beginning of what is.
    """
    tmp_path = tmp_path_factory.mktemp("run")
    env, arguments, run = environment(tmp_path), command(tmp_path), tmp_path / "test"
    chance = random.Random(0)
    before: dict[Path, list[bytes]] = {}
    for step, longest_s in (("profile", 12.0), ("search", 3.0), ("finalists", 2.0)):
        kill_when(arguments, env, run / "log.txt", f"step {step}: begun", chance.uniform(0.2, longest_s))
        now = journals(run)
        assert all(now[path][: len(lines)] == lines for path, lines in before.items())
        before = now
    assert before, "nothing had been written when the run was killed"
    summary = finish(arguments, env)
    now = journals(run)
    assert all(now[path][: len(lines)] == lines for path, lines in before.items())
    return run, summary, env


def test_a_killed_run_ends_with_a_network_that_keeps_the_budget(
    broken_run: tuple[Path, dict[str, Any], dict[str, str]],
) -> None:
    run, summary, _ = broken_run
    assert summary["measured_p50_ms"] <= summary["budget_ms"]
    assert summary["evaluations"] == 6 + 2
    assert 0.8 < summary["top1"] < 1
    assert [yardstick["name"] for yardstick in summary["yardsticks"]] == ["largest subnet", "MobileNetV3-Small"]
    assert set(summary["seconds_per_step"]) == {"profile", "budget", "search", "finalists", "benchmark"}
    assert json.loads((run / "summary.json").read_text()) == summary
    assert (run / "report.html").stat().st_size > 10_000
    classification = json.loads((run / "report.json").read_text())["winner"]["network"]["classification"]
    assert classification["top1"] == summary["top1"]
    assert sum(entry["images"] for entry in classification["confusion"]) == classification["images"]
    assert list(run.rglob("*.part")) == []


def test_nothing_was_measured_or_evaluated_twice(broken_run: tuple[Path, dict[str, Any], dict[str, str]]) -> None:
    run, _, _ = broken_run
    refined = candidates(run, "search/*/refined")
    assert len(candidates(run)) == 6 and len(refined) == 2
    assert len({*candidates(run), *refined}) == 8
    finalists = json.loads((run / "finalists.json").read_text())["finalists"]
    measured = Counter(line["onnx_sha256"] for line in read_json_lines(run / "finalists" / "journal.jsonl"))
    # Two builds of each, up to twice as many where a busy machine gave too few samples.
    assert len(measured) == len(finalists) >= 2
    assert all(2 <= builds <= 4 for builds in measured.values())
    log = (run / "log.txt").read_text()
    for step in ("profile", "search", "finalists", "benchmark"):
        assert log.count(f"step {step}: done in") == 1


def test_a_finished_run_is_only_read(broken_run: tuple[Path, dict[str, Any], dict[str, str]]) -> None:
    run, summary, env = broken_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name not in UNSTABLE}
    assert finish(command(run.parent), env) == summary
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name not in UNSTABLE}
    changed = {str(path.relative_to(run)) for path in after if after[path] != before.get(path)}
    assert {name for name in changed if "/nni/" not in name} == set()


def test_with_the_same_table_and_seed_an_unbroken_search_visits_the_same_candidates(
    broken_run: tuple[Path, dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    run, summary, env = broken_run
    table = next(path for path in (run / "latency_tables" / "host-cpu").glob("*.json"))
    arguments = command(tmp_path, "--table", str(table), "--budget", str(summary["budget_ms"]))
    kill_when(arguments, env, tmp_path / "test" / "log.txt", "step search: done in", 0)  # what follows is measured anew
    assert candidates(tmp_path / "test") == candidates(run)


def test_home_is_left_alone_and_nothing_reports_its_use(
    broken_run: tuple[Path, dict[str, Any], dict[str, str]],
) -> None:
    _, _, env = broken_run
    written = [path for path in Path(env["HOME"]).rglob("*") if path.is_file()]
    assert written == []


def test_a_budget_below_the_fastest_subnet_ends_with_its_measured_latency(
    broken_run: tuple[Path, dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    run, _, env = broken_run
    table = next(path for path in (run / "latency_tables" / "host-cpu").glob("*.json"))
    arguments = command(tmp_path, "--table", str(table), "--budget", "0.001")
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "keeps 0.001 ms on host-cpu: the fastest, " in done.stderr
    assert re.search(r"takes \d[\d.e-]* ms as measured", " ".join(done.stderr.split()))
    assert "Traceback" not in done.stderr


def test_the_table_of_another_device_is_refused_unless_allowed(
    broken_run: tuple[Path, dict[str, Any], dict[str, str]], tmp_path: Path
) -> None:
    run, _, env = broken_run
    table = json.loads(next((run / "latency_tables" / "host-cpu").glob("*.json")).read_text())
    table["fingerprint"]["identity"]["cpu_model"] = "Another CPU"
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps(table))
    arguments = command(tmp_path, "--table", str(foreign))
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "was measured on another device" in done.stderr
    assert "Another CPU" in done.stderr
    search = [*PROGRAM, "search", "--table", str(foreign), "--allow-stale", "--budget", "0.1", "--json"]
    found = finish([*search, "--evaluations", "1", "--out", str(tmp_path / "search")], env)
    assert found["stale"] is True
