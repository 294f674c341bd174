"""The service as a process, asked over HTTP, while everything around it changes."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.agent.protocol import AgentError
from tests.agent.service.board import PATIENCE_S, Board, Poller, end, golden, npy, pareto_bundle, until
from tests.agent.service.test_metrics import parsed, values
from tests.deploy.bundles import ENVELOPE, TinyBundle, make_key, tiny_bundle

ONE, TWO = pareto_bundle(1), pareto_bundle(2)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def broken_slots(board: Board) -> Iterator[tuple[TinyBundle, str]]:
    """Slots that must not be served, and why."""
    yield tiny_bundle(version=11, golden_error=1.0), "answers its golden inputs wrongly"
    yield tiny_bundle(make_key(7), version=12), "it is signed by key"
    yield tiny_bundle(version=13, real=False), "refused"
    changed = tiny_bundle(version=14)
    yield replace(changed, files={**changed.files, "models/m0/model.onnx": b"other"}), "changed on the disk"
    renamed = tiny_bundle(version=15)
    (board.install(renamed) / ENVELOPE).write_bytes(tiny_bundle(version=16).envelope)
    yield renamed, "manifest of another bundle"


def test_no_request_fails_whatever_changes(board: Board) -> None:
    board.point(ONE)
    with board.serving("--cool-s", "0.1") as process:
        board.when(digest=ONE.digest, model="slow", fits=True, problem=None)
        with Poller(board, ONE, TWO) as poller:
            for number in range(12):
                board.switch(TWO if number % 2 == 0 else ONE)
                poller.wait_for(1)
            slow, fast = (model["expected_ms"] for model in board.client.health()["models"])
            assert fast < slow
            for budget, model, fits in ((fast, "fast", True), (fast / 1e3, "fast", False), (None, "slow", True)):
                told = board.client.set_budget(budget)
                assert (told["model"], told["fits"], told["budget_ms"]) == (model, fits, budget)
                poller.wait_for(3)
                assert poller.answers[-1] == (ONE.digest, model)
            board.heat(2)
            throttled = board.when(model="fast")
            assert throttled["throttled"] == ["cooling device cpufreq-cpu0 at 2 of 3"]
            poller.wait_for(3)
            board.heat(0)
            board.when(model="slow", throttled=[])
            for bundle, reason in broken_slots(board):
                board.point(bundle)
                problem = until(lambda digest=bundle.digest: _problem(board, digest))
                assert reason in problem
                poller.wait_for(1)
                assert poller.answers[-1] == (ONE.digest, "slow")
            board.switch(ONE)
            with board.client.quiesced(1.0):
                before = len(poller.answers)
            poller.wait_for(3)
            assert before + 3 <= len(poller.answers)
        assert poller.failures == []
        families = parsed(board.ask("GET", "/metrics")[2].decode())
        assert values(families["hwnas_requests"]) == {("hwnas_requests_total", "200"): len(poller.answers)}
        switches = values(families["hwnas_switches"])
        assert [switches["hwnas_switches_total", cause] for cause in ("slot", "budget", "throttling")] == [12, 2, 2]
        assert values(families["hwnas_refused_slots"])["hwnas_refused_slots_total",] == 5
        assert families["hwnas_model_info"].samples[0].labels == {
            **{"digest": ONE.digest, "name": "cameras", "version": "1", "model": "slow"}
        }
        assert end(process) == 0


def _problem(board: Board, digest: str) -> str | None:
    problem = board.client.health()["problem"]
    return problem if problem and digest[:12] in problem else None


def test_a_killed_service_is_followed_by_one_that_knows_its_budget(board: Board) -> None:
    path = board.root / "socket"
    board.point(ONE)
    with board.serving(address=f"unix:{path}") as process:
        fast = board.when(model="slow")["models"][1]["expected_ms"]
        assert path.stat().st_mode & 0o777 == 0o600
        # Requests of other users' programs do not get that far; the budget outlives what a machine's noise can do.
        board.client.set_budget(3 * fast)
        process.kill()
        process.wait()
    assert path.exists()
    assert board.record() is None
    with pytest.raises(AgentError, match="no service lives"):
        board.client.health()
    with board.serving("--socket-mode", "660", address=f"unix:{path}") as process:
        state = board.when(digest=ONE.digest, ready=True)
        assert path.stat().st_mode & 0o777 == 0o660
        assert state["budget_ms"] == pytest.approx(3 * fast)
        inputs, outputs = golden(ONE, state["model"])
        np.testing.assert_allclose(board.client.infer(inputs)["logits"], outputs, rtol=1e-2, atol=1e-3)
        assert end(process) == 0
    assert not path.exists()
    assert not (board.root / "service.json").exists()


def test_a_service_that_is_ended_answers_what_it_has_taken(board: Board) -> None:
    bundle = pareto_bundle(1, slow_layers=12)
    inputs, outputs = golden(bundle, "slow")
    many = np.concatenate([inputs] * 64)
    found: list[np.ndarray] = []
    board.point(bundle)
    with board.serving() as process:
        board.when(model="slow")
        board.ask("POST", "/quiesce", b'{"seconds": 2.0}', board.bearer)
        threads = [threading.Thread(target=lambda: found.append(board.client.infer(many)["logits"])) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: board.client.health()["waiting"] + len(found) == 4)
        assert end(process) == 0
        for thread in threads:
            thread.join()
    assert len(found) == 4
    for answer in found:
        np.testing.assert_allclose(answer[:4], outputs, rtol=1e-2, atol=1e-3)


def test_what_is_not_there_yet_is_served_when_it_comes_and_no_more_when_it_goes(board: Board) -> None:
    inputs, _ = golden(ONE, "slow")
    with board.serving() as process:
        state = board.client.health()
        assert (state["ready"], state["digest"], state["problem"]) == (False, None, None)
        assert board.ask("GET", "/health")[0] == 503
        status, headers, content = board.ask("POST", "/infer", npy(inputs))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "no slot is active" in json.loads(content)["error"]
        with board.client.quiesced() as pause:
            pass
        assert pause.held
        slot = board.install(ONE)
        kept = (slot / "models/fast/model.onnx").read_bytes()
        (slot / "models/fast/model.onnx").write_bytes(b"half")
        (board.root / "current").symlink_to(f"slots/{ONE.digest}")
        assert "changed on the disk" in until(lambda: board.client.health()["problem"])
        (slot / "models/fast/model.onnx").write_bytes(kept)
        process.send_signal(signal.SIGHUP)  # else it would try again in half a minute
        board.when(ready=True, digest=ONE.digest, problem=None)
        (board.root / "budget.json").write_text('{"latency_ms": 0.00001}')
        process.send_signal(signal.SIGHUP)
        board.when(budget_ms=0.00001, model="fast", fits=False)
        (board.root / "current").unlink()
        board.when(ready=False, digest=None, problem=None)
        board.trust(revoked=[json.loads(ONE.envelope)["signatures"][0]["keyid"]])
        board.point(ONE)
        assert "was revoked (lost)" in until(lambda: board.client.health()["problem"])
        assert not board.client.health()["ready"]
        assert end(process) == 0


def test_an_engine_of_another_version_of_the_runtime_is_built_anew(board: Board) -> None:
    board.point(ONE)
    record = board.root / "slots" / ONE.digest / "built/slow/record.json"
    with board.serving() as process:
        board.when(ready=True)
        assert end(process) == 0
    built = json.loads(record.read_text())
    record.write_text(json.dumps({**built, "runtime_version": "1.0"}))
    with board.serving():
        board.when(ready=True)
    assert json.loads(record.read_text())["runtime_version"] == built["runtime_version"]


def test_systemd_hears_that_it_is_ready_that_it_lives_and_that_it_ends(board: Board, tmp_path: Path) -> None:
    board.point(ONE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        given = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        with board.serving(environment=given) as process:
            heard = _heard_until(systemd, "READY=1")
            assert board.client.health()["ready"]
            assert "STATUS=serving slow" in heard + _heard_until(systemd, "WATCHDOG=1")
            assert end(process) == 0
            _heard_until(systemd, "STOPPING=1")


def _heard_until(systemd: socket.socket, word: str) -> list[str]:
    heard: list[str] = []
    while word not in heard:
        heard += systemd.recv(1000).decode().splitlines()
    return heard


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--address", "0.0.0.0:8731"], "the service listens on this board alone, not on 0.0.0.0"),
        (["--queue", "0"], "argument --queue: invalid"),
        (["--socket-mode", "1777"], "argument --socket-mode: invalid"),
    ],
)
def test_what_it_cannot_be_it_says_in_a_sentence(board: Board, options: list[str], says: str) -> None:
    assert says in board.refused(*options)


def test_one_root_has_one_service_and_is_its_owner_s_alone(board: Board) -> None:
    with board.serving():
        assert board.refused() == f"another service serves {board.root}; stop that one first\n"
    board.root.chmod(0o755)
    assert "must belong to you alone" in board.refused()
