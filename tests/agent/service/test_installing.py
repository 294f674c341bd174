"""Installing beside a service that is asked all the time, and what a restart makes of a slot nobody confirmed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.environment import undisturbed
from hwnas.agent.slots.building import Builder
from hwnas.agent.slots.health import Health
from hwnas.agent.slots.installing import Outcome, install
from hwnas.agent.slots.slots import Slots
from tests.agent.service.board import Board, Poller, end
from tests.deploy.bundles import TinyBundle, tiny_bundle
from tests.deploy.fakes import send

FIRST, NEXT = tiny_bundle(version=1), tiny_bundle(version=9)
BAD: dict[str, dict[str, Any]] = {
    "golden": {"golden_error": 1.0},
    "accuracy": {"wrong_labels": True},
    "latency": {"budget": {"latency_ms": 0.001}},
    "memory": {"budget": {"memory_mib": 0.1}},
}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def installed(board: Board, bundle: TinyBundle) -> Outcome:
    """What becomes of a bundle that arrives."""
    slots = Slots(board.root)
    send(slots, bundle.archive, bundle.sha256)
    return install(slots, bundle.sha256, Builder(), Health(board.root))


def test_no_request_fails_while_bad_bundles_are_refused_and_a_good_one_is_installed(board: Board) -> None:
    assert installed(board, FIRST).outcome == "confirmed"
    with board.serving() as process:
        board.when(digest=FIRST.digest)
        with Poller(board, FIRST, NEXT) as poller:
            for number, (name, fault) in enumerate(BAD.items()):
                outcome = installed(board, tiny_bundle(version=2 + number, **fault))
                assert outcome.outcome == "unhealthy"
                assert outcome.health is not None
                assert name in [check["name"] for check in outcome.health["checks"] if not check["ok"]]
                poller.wait_for(1)
                assert {digest for digest, _ in poller.answers} == {FIRST.digest}
            assert installed(board, NEXT).outcome == "confirmed"
            poller.wait_for(1)
            assert poller.answers[-1][0] == NEXT.digest
        assert poller.failures == []
        assert end(process) == 0


def unit_command(name: str, board: Board) -> list[str]:
    """A command of the unit, on this board."""
    unit = (files("hwnas.agent.service") / "hwnas-serve.service").read_text().splitlines()
    (line,) = [line.partition("=")[2].lstrip("-") for line in unit if line.startswith(f"{name}=")]
    here = {
        "/usr/bin/python3": sys.executable,
        "/usr/local/lib/hwnas/hwnas-agent.pyz": str(board.agent),
        "/var/lib/hwnas": str(board.root),
        "127.0.0.1:8731": "127.0.0.1:0",
    }
    return [here.get(word, word) for word in shlex.split(line)]


def test_a_slot_that_was_not_confirmed_is_reverted_before_the_service_starts(board: Board) -> None:
    assert installed(board, FIRST).outcome == "confirmed"
    slots = Slots(board.root)
    send(slots, NEXT.archive, NEXT.sha256)
    slots.verify(NEXT.sha256)
    slots.build(NEXT.digest, Builder())
    assert slots.check(NEXT.digest, Health(board.root))["healthy"]
    slots.activate(NEXT.digest)
    assert slots.current() == NEXT.digest
    variables = undisturbed(os.environ)
    for _ in range(2):  # the second has nothing to do
        subprocess.run(unit_command("ExecStartPre", board), env=variables, check=True)
        assert slots.current() == FIRST.digest
    assert slots.slot(NEXT.digest).state == "rolled-back"
    with subprocess.Popen(unit_command("ExecStart", board), env=variables) as process:
        try:
            board.when(digest=FIRST.digest, ready=True)
            assert end(process) == 0
        finally:
            process.kill()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None or not Path("/usr/bin/python3").exists():
        pytest.skip("needs systemd-analyze and /usr/bin/python3")
    unit = tmp_path / "hwnas-serve.service"
    unit.write_bytes((files("hwnas.agent.service") / unit.name).read_bytes())
    checked = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
