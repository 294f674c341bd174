"""Where the service listens, how it measures models, when it pauses, and what it tells systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.agent.protocol import AgentError
from hwnas.agent.runtimes import Engine, TensorInfo
from hwnas.agent.service.address import listen, parse_address
from hwnas.agent.service.admission import Admission
from hwnas.agent.service.expected import measure_expected
from hwnas.agent.service.notify import Notifier
from hwnas.agent.service.pause import Pause
from hwnas.agent.service.record import Presence, find_service, keep_budget, kept_budget


@pytest.mark.parametrize("text", ["127.0.0.1:8731", "127.9.9.9:1", "[::1]:80", "unix:/run/hwnas.sock"])
def test_addresses_of_this_machine_are_taken(text: str) -> None:
    assert str(parse_address(text)) == text


def test_localhost_is_an_address_and_never_looked_up() -> None:
    assert str(parse_address("localhost:80")) == "127.0.0.1:80"


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0:80", "[::]:80", "192.168.1.2:80", "example.org:80", ":80", "*:80", "127.0.0.1.evil.org:80"),
        *("127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:٣", "", "unix:", "unix:relative"),
    ],
)
def test_all_others_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(AgentError, match=r"127\.0\.0\.1:|unix:/run"):
        parse_address(text)


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_unix_socket_has_its_permissions_from_the_start(tmp_path: Path, mode: int) -> None:
    mask = os.umask(0)
    try:
        with listen(parse_address(f"unix:{tmp_path}/s"), mode):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
        assert os.umask(0) == 0
    finally:
        os.umask(mask)


def test_the_socket_of_a_killed_service_is_replaced_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    address = parse_address(f"unix:{tmp_path}/s")
    listen(address, 0o600).close()
    with listen(address, 0o600), pytest.raises(AgentError, match="another service listens"):
        listen(address, 0o600)


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(AgentError, match="no socket"):
        listen(parse_address(f"unix:{tmp_path}/s"), 0o600)
    assert (tmp_path / "s").read_text() == "precious"


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with (
        listen(parse_address("127.0.0.1:0"), 0) as first,
        pytest.raises(AgentError, match=r"127\.0\.0\.1:\d+ cannot be listened on"),
    ):
        listen(parse_address(f"127.0.0.1:{first.getsockname()[1]}"), 0)


class FakeEngine(Engine):
    """Takes the times that it is told, by a clock of its own."""

    def __init__(self, times_ns: Sequence[int]) -> None:
        self.inputs = [TensorInfo("input", "float32", (1, 4))]
        self.outputs = self.inputs
        self._times, self._runs, self.now = times_ns, 0, 0

    def upload(self, arrays: Sequence[np.ndarray]) -> None:
        assert [array.shape for array in arrays] == [(1, 4)]

    def run(self) -> None:
        self.now += self._times[self._runs % len(self._times)]
        self._runs += 1

    def download(self) -> list[np.ndarray]:
        return []


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    yield True


@contextlib.contextmanager
def disturbed() -> Iterator[bool]:
    yield False


@pytest.mark.parametrize(
    ("run_ms", "statistic", "stated", "runs"),
    [
        *[(0.1, "p99", "p99", 662), (1.0, "p99", "p99", 662), (3.0, "p99", "p90", 331), (50.0, "p99", "p50", 17)],
        *[(700.0, "p99", "p50", 5), (0.1, "p50", "p50", 64), (0.1, "p90", "p90", 64)],
    ],
)
def test_the_statistic_is_one_that_the_runs_can_state(run_ms: float, statistic: str, stated: str, runs: int) -> None:
    engine = FakeEngine([int(run_ms * 1e6)])
    found = measure_expected(engine, np.zeros((1, 4), np.float32), statistic, alone, lambda: engine.now)
    assert (found.ms, found.statistic, found.contended) == (pytest.approx(run_ms), stated, False)
    assert abs(found.runs - runs) <= 2


@pytest.mark.parametrize(("statistic", "expected"), [("p99", 2.0), ("p50", 1.0)])
def test_a_tail_is_in_the_p99_and_not_in_the_p50(statistic: str, expected: float) -> None:
    engine = FakeEngine([1_000_000] * 49 + [2_000_000])
    found = measure_expected(engine, np.zeros((1, 4), np.float32), statistic, alone, lambda: engine.now)
    assert found.ms == pytest.approx(expected)


def test_a_measurement_beside_requests_says_so() -> None:
    engine = FakeEngine([1_000_000])
    assert measure_expected(engine, np.zeros((1, 4), np.float32), "p50", disturbed, lambda: engine.now).contended


def test_a_pause_ends_by_itself_and_says_so() -> None:
    pause = Pause(0.01)
    pause()
    assert pause.over.is_set()
    seconds, expired = pause.resume()
    assert (expired, seconds <= 0.011) == (True, True)


def test_a_pause_that_is_resumed_before_its_turn_does_not_begin() -> None:
    pause = Pause(60)
    assert pause.resume() == (0.0, True)
    pause()
    assert not pause.quiet.is_set()
    assert pause.over.is_set()


def test_a_pause_is_ended_from_another_thread() -> None:
    pause = Pause(60)
    thread = threading.Thread(target=pause)
    thread.start()
    pause.quiet.wait(60)
    assert pause.in_force
    assert not pause.resume()[1]
    thread.join()
    assert not pause.in_force


def test_requests_are_let_in_by_number_and_by_size() -> None:
    admission = Admission(most_requests=2, most_bytes=100)
    with admission.entered(500), pytest.raises(AgentError, match="1 requests wait"), admission.entered(1):
        pass
    full = pytest.raises(AgentError, match="2 requests wait")
    with admission.entered(50), admission.entered(50), full, admission.entered(0):
        pass
    assert admission.waiting == 0


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"hwnas-{os.getpid()}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else str(tmp_path / name))
        given = {"NOTIFY_SOCKET": f"@{name}" if abstract else str(tmp_path / name)}
        Notifier(given).tell(READY="1", STATUS="serving a")
        assert systemd.recv(100) == b"READY=1\nSTATUS=serving a"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_that_of_this_process(given: dict[str, str], expected: float | None) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/nowhere", **given}).watchdog_s == expected
    assert Notifier(given).watchdog_s is None


def test_nothing_is_told_where_nobody_listens(tmp_path: Path) -> None:
    Notifier({}).tell(READY="1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell(READY="1")


def test_a_record_is_that_of_a_living_service(tmp_path: Path) -> None:
    assert find_service(tmp_path) is None
    presence = Presence(tmp_path)
    presence.say({"pid": 1})
    assert find_service(tmp_path) == {"pid": 1}
    assert stat.S_IMODE((tmp_path / "service.json").stat().st_mode) == 0o600
    with pytest.raises(AgentError, match="another service serves"):
        Presence(tmp_path)
    presence.leave()
    assert find_service(tmp_path) is None
    assert not (tmp_path / "service.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"latency_ms": "1"}', '{"latency_ms": null}', '{"latency_ms": -1}'])
def test_a_budget_that_is_none_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "budget.json").write_text(content)
    assert kept_budget(tmp_path) is None


@pytest.mark.parametrize("budget", [None, 1.5])
def test_a_budget_is_kept(tmp_path: Path, budget: Any) -> None:
    keep_budget(tmp_path, budget)
    assert kept_budget(tmp_path) == budget
