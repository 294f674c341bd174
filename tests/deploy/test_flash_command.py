"""``hwnas flash``, ``status``, ``rollback`` and ``slots``, as somebody runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hwnas.agent.lease import Lease
from hwnas.deploy.keys import KeyStore
from tests.deploy.bundles import tiny_bundle
from tests.deploy.commands import hwnas, told
from tests.sshd import Sshd, serving

EVENTUALLY_S = 60.0


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    """This user's keys: one, called release."""
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    store = KeyStore()
    store.new("release", "the release key")
    return store


def bundle(keys: KeyStore, directory: Path, version: int = 1, **flaws: object) -> Path:
    return tiny_bundle(keys["release"].unlocked(), version=version, **flaws).write(directory)  # type: ignore[arg-type]


def test_a_board_is_flashed_looked_at_and_rolled_back(keys: KeyStore, tmp_path: Path) -> None:
    here = ("--target", "host-cpu", "--root", tmp_path / "board")
    first = bundle(keys, tmp_path)
    assert "the board does not trust its key" in hwnas("flash", first, *here, "--dry-run", status=1)
    hwnas("keys", "trust", "release", *here, "--yes")
    assert "nothing was changed" in hwnas("flash", first, *here, "--dry-run")
    assert "serves cameras-v1" in hwnas("flash", first, *here)
    second = told("flash", bundle(keys, tmp_path, version=2), *here)
    assert (second["fate"], second["health"]["healthy"]) == ("updated", True)
    assert "golden outputs differ" in hwnas(
        "flash", bundle(keys, tmp_path, version=3, golden_error=1.0), *here, status=1
    )
    shown = hwnas("status", *here, "--audit", 3)
    assert "confirmed, current" in shown and "confirmed, previous" in shown and "the release key" in shown
    assert "serves" in hwnas("rollback", *here, "--reason", "a test")
    state = told("status", *here)["host-cpu"]
    assert state["slots"][second["digest"]]["reason"] == "a test"
    assert "removed" in hwnas("slots", "gc", *here)
    assert len(told("status", *here)["host-cpu"]["slots"]) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Say which boards"),
        (("--target", "host-cpu", "--group", "cameras.yaml"), "Say which boards"),
        (("--target", "jetson-nano-4gb"), "described by facts alone"),
    ],
)
def test_boards_are_named_in_one_way(arguments: tuple[str, ...], sentence: str, keys: KeyStore, tmp_path: Path) -> None:
    assert sentence in hwnas("flash", bundle(keys, tmp_path), *arguments, status=2)


@pytest.mark.parametrize(
    "option",
    [("--stages", "1,100%"), ("--max-failures", "2%"), ("--parallel", "8"), ("--rollouts", "rollouts"), ("--fresh",)],
)
def test_what_is_for_a_group_is_refused_with_one_board(option: tuple[str, ...], keys: KeyStore, tmp_path: Path) -> None:
    here = ("--target", "host-cpu", "--root", tmp_path / "board")
    said = hwnas("flash", bundle(keys, tmp_path), *here, *option, status=2)
    assert option[0] in said and "are for rollouts to a group; leave them out with --target" in said
    assert not (tmp_path / "board").exists()


def test_a_bundle_that_was_changed_is_refused_here(keys: KeyStore, tmp_path: Path) -> None:
    changed = bundle(keys, tmp_path)
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    assert "Error:" in hwnas("flash", changed, "--target", "host-cpu", "--root", tmp_path / "board", status=2)
    assert not (tmp_path / "board").exists()


def group_of(server: Sshd, directory: Path, count: int) -> Path:
    """A group of boards that are one machine with several roots."""
    lines = ["schema: 1", "group: cameras", "boards:"]
    for number in range(count):
        way = json.dumps(server.settings().model_dump(exclude_defaults=True))
        lines.append(f"  - {{name: b{number}, target: host-cpu, ssh: {way}, root: {directory}/b{number}}}")
    path = directory / "cameras.yaml"
    path.write_text("\n".join(lines))
    return path


def test_of_a_group_those_answer_that_can(keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with serving(tmp_path / "home") as server:
        group = group_of(server, tmp_path, 1)
        away = json.dumps(server.settings().model_dump(exclude_defaults=True) | {"host": "127.0.0.1", "port": 9})
        group.write_text(f"{group.read_text()}\n  - {{name: away, target: host-cpu, ssh: {away}}}\n")
        revoke = ["keys", "revoke", "release", "--reason", "lost"]
        dry = ["flash", bundle(keys, tmp_path), "--dry-run"]
        for command in (["status"], ["slots", "gc"], ["rollback"], dry, revoke):
            said = hwnas(*command, "--group", group, status=1)
            assert "b0" in said and "away: " in said and "cannot be reached" in said


def test_a_board_that_another_has_is_left_alone(keys: KeyStore, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with serving(tmp_path / "home") as server:
        group, trust = group_of(server, tmp_path, 1), ("--target", "host-cpu", "--root", tmp_path / "b0", "--yes")
        hwnas("keys", "trust", "release", *trust)
        Lease("another", "somebody else", tmp_path / "home" / "lock").take(600)
        rollouts = ("--rollouts", tmp_path / "rollouts")
        (outcome,) = told("flash", bundle(keys, tmp_path), "--group", group, *rollouts, status=1)["outcomes"]
    assert outcome["fate"] == "refused" and outcome["why"].count("in use by somebody else") == 1


def test_a_group_is_flashed_in_waves_over_ssh_and_the_operators_machine_may_die(keys: KeyStore, tmp_path: Path) -> None:
    """The command is killed once a board has the bundle; the same command ends the rollout."""
    (tmp_path / "home").mkdir()
    with serving(tmp_path / "home") as server:
        group = group_of(server, tmp_path, 2)
        for number in range(2):
            hwnas("keys", "trust", "release", "--target", "host-cpu", "--root", tmp_path / f"b{number}", "--yes")
        arguments = ["flash", bundle(keys, tmp_path), "--group", group, "--stages", "1,100%", "--parallel", "1"]
        arguments += ["--rollouts", tmp_path / "rollouts"]
        command = [sys.executable, "-m", "hwnas", *map(str, arguments)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        log = tmp_path / "rollouts" / "cameras-v1-cameras.jsonl"
        deadline = time.monotonic() + EVENTUALLY_S
        while not (log.exists() and '"flashed"' in log.read_text()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        result = told(*arguments)
    assert result["stopped_in"] is None
    assert {one["board"]: one["fate"] for one in result["outcomes"]} == {"b0": "updated", "b1": "updated"}
    events = [json.loads(line).get("event") for line in log.read_text().splitlines()[1:]]
    assert events.count("flashed") == 2
