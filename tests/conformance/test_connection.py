"""What every connection to a device must do.  A new connection is one more line in ``CONNECTIONS_HERE``."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hwnas.agent import protocol
from hwnas.devices import AgentLostError, AgentProcess, AgentTimeoutError, Connection
from hwnas.devices.device import CONNECTIONS
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from tests.sshd import Sshd


def over_ssh(request: pytest.FixtureRequest) -> Connection:
    server: Sshd = request.getfixturevalue("sshd")
    return SshConnection(server.settings())


CONNECTIONS_HERE: dict[str, Callable[[pytest.FixtureRequest], Connection]] = {
    "local": lambda _: LocalConnection(),
    "ssh": over_ssh,
}
ANSWERS_WITHIN_S = 60


@pytest.fixture(params=list(CONNECTIONS_HERE))
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    opened = CONNECTIONS_HERE[request.param](request)
    yield opened
    opened.close()


@pytest.fixture
def agent(connection: Connection) -> Iterator[AgentProcess]:
    started = connection.start_agent()
    yield started
    started.stop()


def ask(agent: AgentProcess, request: str, **fields: Any) -> dict[str, Any]:
    line = json.dumps({"id": 1, "request": request, **fields}).encode() + b"\n"
    reply: dict[str, Any] = json.loads(agent.exchange(line, ANSWERS_WITHIN_S))
    return reply


def test_every_registered_connection_is_tested_here() -> None:
    assert set(CONNECTIONS) == set(CONNECTIONS_HERE)


def test_a_line_is_answered_by_a_line(agent: AgentProcess) -> None:
    assert agent.alive
    assert ask(agent, "hello")["result"]["protocol"] == protocol.VERSION
    assert ask(agent, "nonsense")["ok"] is False
    assert agent.alive


def test_a_long_line_passes_both_ways(agent: AgentProcess) -> None:
    assert "is unknown" in ask(agent, "nonsense", padding="x" * (8 << 20))["error"]["message"]


def test_a_late_answer_is_none(agent: AgentProcess) -> None:
    ask(agent, "hello")
    slow = json.dumps({"id": 2, "request": "learn-fast-state", "runtime": "onnxruntime", "seconds": 10**4})
    with pytest.raises(AgentTimeoutError):
        agent.exchange(slow.encode() + b"\n", 0.5)
    assert not agent.alive
    with pytest.raises(AgentLostError):
        agent.exchange(b"{}\n", ANSWERS_WITHIN_S)


def test_a_dead_agent_is_noticed(agent: AgentProcess) -> None:
    assert ask(agent, "quit")["ok"]
    with pytest.raises(AgentLostError):
        for _ in range(100):
            agent.exchange(b'{"id": 1, "request": "hello"}\n', ANSWERS_WITHIN_S)
            time.sleep(0.1)
    assert not agent.alive


def test_an_agent_that_something_else_killed_is_lost_and_not_late(agent: AgentProcess) -> None:
    os.kill(ask(agent, "hello")["result"]["pid"], signal.SIGKILL)
    with pytest.raises(AgentLostError) as lost:
        for _ in range(100):
            agent.exchange(b'{"id": 1, "request": "hello"}\n', ANSWERS_WITHIN_S)
            time.sleep(0.1)
    assert not isinstance(lost.value, AgentTimeoutError)
    assert not agent.alive
    assert isinstance(agent.last_words(), str)


def test_a_busy_agent_is_killed_at_once_with_what_it_does(agent: AgentProcess) -> None:
    pid = ask(agent, "hello")["result"]["pid"]
    agent.kill()
    agent.kill()
    assert not agent.alive
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_stopping_twice_is_stopping_once(agent: AgentProcess) -> None:
    ask(agent, "hello")
    agent.stop()
    agent.stop()
    assert not agent.alive
    with pytest.raises(AgentLostError):
        agent.exchange(b"{}\n", ANSWERS_WITHIN_S)


def test_agents_started_one_after_another_share_a_directory(connection: Connection) -> None:
    chunk = {"sha256": "0" * 64, "offset": 0, "size": 100, "data": "AAAA"}
    first = connection.start_agent()
    assert ask(first, "put-blob", **chunk)["result"]["received"] == 3
    pid = ask(first, "hello")["result"]["pid"]
    with pytest.raises(AgentTimeoutError):
        first.exchange(b"\n", 0.5)  # an empty line has no answer
    first.stop()
    second = connection.start_agent()
    assert ask(second, "hello")["result"]["pid"] != pid
    assert ask(second, "blob-status", sha256="0" * 64)["result"]["received"] == 3
    second.stop()


def test_closing_twice_is_closing_once(connection: Connection) -> None:
    connection.start_agent().stop()
    connection.close()
    connection.close()


def test_it_works_from_any_thread(connection: Connection) -> None:
    found: list[AgentProcess] = []
    starter = threading.Thread(target=lambda: found.append(connection.start_agent()))
    starter.start()
    starter.join()
    assert ask(found[0], "hello")["ok"], "an agent must outlive the thread that started it"
    found[0].stop()


def test_no_descriptor_is_left_behind(connection: Connection) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    connection.start_agent().stop()
    before = open_descriptors()
    for _ in range(3):
        agent = connection.start_agent()
        ask(agent, "hello")
        agent.stop()
    assert open_descriptors() <= before
