"""A board with its service behind a real SSH server, flashed by the command: bad bundles, and a host that is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from hwnas.agent.slots.slot_files import open_slot
from hwnas.deploy.keys import KeyStore
from hwnas.devices import load_target
from hwnas.devices.device import Device
from tests.agent.service.board import Board, Poller, end, until
from tests.deploy.bundles import TinyBundle, tiny_bundle
from tests.deploy.commands import hwnas, told
from tests.forked import begun
from tests.sshd import serving

BAD: dict[str, dict[str, Any]] = {
    "golden": {"golden_error": 1.0},
    "latency": {"budget": {"latency_ms": 0.001}},
    "memory": {"budget": {"memory_mib": 0.1}},
}
Death = tuple[str, bool]
"""A request to the board, and whether it was answered when the host was killed."""
REQUESTS = ("receive", "put", "verify", "build", "check", "activate", "confirm")
SOME: list[Death] = [("put", False), ("build", True), ("activate", True), ("confirm", False)]
ALL: list[Death] = [(request, answered) for request in REQUESTS for answered in (False, True)]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def way(tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """The options that name the board to a command; it trusts this user's key."""
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    KeyStore().new("release", "the release key")
    (tmp_path / "home").mkdir()
    with serving(tmp_path / "home") as server:
        target = load_target("host-cpu").model_copy(update={"connection": server.settings()})
        described = tmp_path / "host-cpu.yaml"
        described.write_text(yaml.safe_dump(target.model_dump(mode="json", by_alias=True, exclude_none=True)))
        options: list[object] = ["--target", described, "--root", board.root]
        hwnas("keys", "trust", "release", *options, "--yes")
        yield options


def bundle(version: int, **flaws: Any) -> TinyBundle:
    return tiny_bundle(KeyStore()["release"].unlocked(), version=version, **flaws)


def test_a_client_notices_nothing_while_bad_bundles_are_refused_and_a_good_one_is_served(
    board: Board, way: list[object], tmp_path: Path
) -> None:
    first, good = bundle(1), bundle(9)
    assert told("flash", first.write(tmp_path), *way)["fate"] == "updated"
    with board.serving() as process:
        board.when(digest=first.digest)
        with Poller(board, first, good) as poller:
            for number, (name, flaw) in enumerate(BAD.items(), start=2):
                said = hwnas("flash", bundle(number, **flaw).write(tmp_path), *way, status=1)
                assert "rolled-back" in said and f"✗ {name}" in said and "requests meanwhile" in said
                assert {digest for digest, _ in poller.answers} == {first.digest}
            outcome = told("flash", good.write(tmp_path), *way)
            assert outcome["fate"] == "updated" and outcome["health"]["live"]["requests"] > 0
            poller.wait_for(1)
            assert poller.answers[-1][0] == good.digest
        assert poller.failures == []
        assert end(process) == 0


def killed(arguments: list[object], request: str, answered: bool) -> bool:
    """Run a command that dies of SIGKILL with a request to the board, once it is sent, or once it is answered; with a
    later one, where that is done already.  Gives whether there was one.
    """
    process = begun(_dying, dict(os.environ), arguments, request, answered=answered)
    process.join()
    assert process.exitcode in {-signal.SIGKILL, 0}
    return process.exitcode != 0


def _dying(environment: dict[str, str], arguments: list[object], request: str, *, answered: bool) -> None:
    os.environ.clear()
    os.environ.update(environment)
    _die_with(request, answered=answered)
    hwnas(*arguments)


def _die_with(request: str, *, answered: bool) -> None:
    from hwnas.devices.ssh.agent import SshAgent

    original, last = Device.slots, REQUESTS[REQUESTS.index(request) :]

    def slots(device: Device, name: str, *args: Any, **fields: Any) -> Any:
        if name in last and not answered:
            SshAgent.exchange = _sent_only  # type: ignore[method-assign]
        reply = original(device, name, *args, **fields)
        if name in last:
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    Device.slots = slots  # type: ignore[method-assign]


def let_go(lock: Path) -> None:
    """Have the board free once nobody is left there: it would be kept for the killed host, should it come back."""

    def alone() -> bool:
        return not any(_environment(process).get("HWNAS_LOCK") == str(lock) for process in psutil.process_iter())

    until(alone)
    lock.unlink(missing_ok=True)


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _sent_only(agent: Any, line: bytes, timeout_s: float) -> bytes:
    agent._process.write(line)
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


@pytest.mark.parametrize("deaths", [SOME, pytest.param(ALL, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_host_that_is_killed_leaves_a_whole_slot_and_the_same_command_ends_well(
    deaths: list[Death], board: Board, way: list[object], tmp_path: Path
) -> None:
    first, second = bundle(1), bundle(2)
    assert told("flash", first.write(tmp_path), *way)["fate"] == "updated"
    command = ["flash", second.write(tmp_path), *way]
    for request, answered in deaths:
        died = killed(command, request, answered=answered)
        let_go(tmp_path / "home" / "lock")
        current = (board.root / "current").readlink().name
        assert current in {first.digest, second.digest}
        assert died or current == second.digest
        served = open_slot(board.root)
        assert [served.engine(model).record["origin"] for model in served.manifest.models] == ["built"]
    assert told("status", *way)["host-cpu"]["current"] == second.digest
    assert told(*command)["fate"] in {"updated", "unchanged"}
