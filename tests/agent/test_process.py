"""The agent as a process: its pipes, its directory, its end."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent import protocol
from hwnas.agent.canary import canary_onnx
from hwnas.agent.protocol import ErrorKind

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "hwnas" / "agent"
ENDS_WITHIN_S = 30


class Running:
    """An agent and what it says."""

    def __init__(self, home: Path, *arguments: str, import_from: Path = ROOT, script: str = "") -> None:
        command = [sys.executable, "-c", script] if script else [sys.executable, "-m", "hwnas.agent"]
        self.process = subprocess.Popen(
            [*command, "--home", str(home), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home.parent,
            env={**os.environ, "PYTHONPATH": str(import_from)},
        )

    def send(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdout
        self.send(json.dumps({"id": 1, "request": request, **fields}).encode() + b"\n")
        reply: dict[str, Any] = json.loads(self.process.stdout.readline())
        return reply

    def result(self, request: str, **fields: Any) -> dict[str, Any]:
        reply = self.ask(request, **fields)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        data = base64.b64encode(content).decode()
        self.result("put-blob", sha256=sha256, offset=0, size=len(content), data=data)
        return sha256


@pytest.fixture
def agents() -> Iterator[list[Running]]:
    """Agents put into this list are ended with the test."""
    running: list[Running] = []
    yield running
    for agent in running:
        with agent.process:
            agent.process.kill()


def start(agents: list[Running], home: Path, *arguments: str, **options: Any) -> Running:
    agents.append(Running(home, *arguments, **options))
    return agents[-1]


def test_the_end_of_stdin_ends_the_agent_and_its_ephemeral_home(agents: list[Running], tmp_path: Path) -> None:
    agent = start(agents, tmp_path / "home", "--ephemeral")
    assert agent.result("hello")["pid"] == agent.process.pid
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
    assert agent.process.stdin
    agent.process.stdin.close()
    assert agent.process.wait(ENDS_WITHIN_S) == 0
    assert not (tmp_path / "home").exists()


def test_quit_ends_the_agent_and_a_home_that_is_not_ephemeral_stays(agents: list[Running], tmp_path: Path) -> None:
    agent = start(agents, tmp_path / "home")
    assert agent.result("quit") == {}
    assert agent.process.wait(ENDS_WITHIN_S) == 0
    assert (tmp_path / "home").is_dir()


def test_a_host_that_dies_takes_a_busy_agent_with_it(agents: list[Running], tmp_path: Path) -> None:
    agent = start(agents, tmp_path / "home", "--ephemeral")
    engine = agent.result("compile", sha256=agent.put(canary_onnx()), runtime="onnxruntime")["engine"]
    endless = {"min_samples": 10**9, "max_seconds": 10**6}
    agent.send(json.dumps({"id": 2, "request": "measure", "engine": engine, "protocol": endless}).encode() + b"\n")
    assert agent.process.stdin
    agent.process.stdin.close()
    assert agent.process.wait(ENDS_WITHIN_S) == 1
    assert not (tmp_path / "home").exists()


def test_chatter_of_native_code_goes_to_stderr(agents: list[Running], tmp_path: Path) -> None:
    chatty = (
        "import os, sys\n"
        "from hwnas.agent import server\n"
        "answer = server.Agent.answer\n"
        "def noisy(self, line):\n"
        "    os.write(1, b'native noise\\n'); print('python noise', flush=True)\n"
        "    return answer(self, line)\n"
        "server.Agent.answer = noisy\n"
        "sys.exit(server.main(sys.argv[1:]))\n"
    )
    agent = start(agents, tmp_path / "home", script=chatty)
    assert agent.result("hello")["protocol"] == protocol.VERSION
    _, words = agent.process.communicate(timeout=ENDS_WITHIN_S)
    assert b"native noise" in words
    assert b"python noise" in words


@pytest.mark.parametrize("mode", [0o755, 0o770])
def test_a_home_that_others_can_enter_is_refused(agents: list[Running], tmp_path: Path, mode: int) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home").chmod(mode)
    agent = start(agents, tmp_path / "home")
    _, words = agent.process.communicate(timeout=ENDS_WITHIN_S)
    assert agent.process.returncode == 1
    assert b"must belong to you alone" in words


def test_a_line_without_end_is_refused(agents: list[Running], tmp_path: Path) -> None:
    agent = start(agents, tmp_path / "home")
    replies, _ = agent.process.communicate(b'{"id": 1, "request": "hel', timeout=ENDS_WITHIN_S)
    assert json.loads(replies)["error"]["kind"] == ErrorKind.BAD_REQUEST


def test_the_agent_works_alone_from_a_zip_file(agents: list[Running], tmp_path: Path) -> None:
    archive = tmp_path / "agent.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("hwnas/__init__.py", "")
        for path in AGENT.rglob("*"):
            if path.suffix in (".py", ".onnx"):
                packed.write(path, f"hwnas/agent/{path.relative_to(AGENT)}")
    agent = start(agents, tmp_path / "home", import_from=archive)
    engine = agent.result("compile", sha256=agent.put(canary_onnx()), runtime="onnxruntime")["engine"]
    measured = agent.result("measure", engine=engine, protocol={"min_samples": 4})
    assert sum(map(len, measured["samples_ns"])) >= 4
    assert agent.result("peak-memory", engine=engine)["peak_bytes"] > 0


def test_the_agent_imports_neither_the_rest_of_hwnas_nor_a_runtime_before_it_is_asked_for() -> None:
    code = "import sys, hwnas.agent.server as s; print([m for m in sys.modules if m.startswith(('hwnas', 'onnx'))])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT).stdout
    modules = ast.literal_eval(printed.decode())
    assert {module for module in modules if not module.startswith("hwnas.agent")} == {"hwnas"}
