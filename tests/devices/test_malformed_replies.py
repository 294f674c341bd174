"""Boards whose replies are none: each costs one error in a sentence, and the next request is met as ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.agent import protocol
from hwnas.agent.canary import canary_onnx
from hwnas.devices import AgentProcess, Connection, Device, Engine, MeasureOptions, load_target, scenario_knobs
from hwnas.devices.local import LocalConnection
from hwnas.errors import HwnasError
from tests.malformed import malformed

BOARDS, REPLIES = 500, 10
CANARY = canary_onnx()
IMAGES = np.zeros((2, 3, 32, 32), np.float32)
QUICK = MeasureOptions(min_samples=4, max_seconds=0.1)

CALLS: dict[str, Callable[[Device, Engine], Any]] = {
    "hello": lambda device, engine: device.fingerprint(),
    "fingerprint": lambda device, engine: device.fingerprint(),
    "board": lambda device, engine: device.board(),
    "blob-status": lambda device, engine: device.compile(CANARY),
    "put-blob": lambda device, engine: device.compile(CANARY),
    "compile": lambda device, engine: device.infer(device.compile(CANARY), IMAGES),
    "explain": lambda device, engine: device.explanation(engine),
    "get-engine": lambda device, engine: device.engine_content(engine),
    "measure": lambda device, engine: device.measure(engine, QUICK).gated,
    "measure-queries": lambda device, engine: device.measure_like_trtexec(
        engine, "trtexec-10", {"duration": 0.001, "warmUp": 0.0}
    ),
    "time-loading": lambda device, engine: device.time_loading(engine),
    "learn-fast-state": lambda device, engine: device.learn_fast_state(0.001),
    "scenario": lambda device, engine: device.run_scenario(
        engine, scenario_knobs("offline", min_seconds=0.01, generator="hwnas")
    ),
    "infer": lambda device, engine: device.infer(engine, IMAGES),
    "peak-memory": lambda device, engine: device.peak_memory(engine),
    "release": lambda device, engine: device.release(engine),
}
"""What a host does in order to be answered to a request."""


class Board(Connection):
    """Agents that answer as a real one once did, but to one request once with what is in :attr:`wrong`."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.wrong: tuple[str, bytes] | None = None
        self.started = 0

    def start_agent(self) -> AgentProcess:
        self.started += 1
        return Replaying(self)

    def close(self) -> None:
        pass


class Replaying(AgentProcess):
    """One agent of such a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._alive = True

    @property
    def alive(self) -> bool:
        return self._alive

    def exchange(self, line: bytes, timeout_s: float) -> bytes:
        assert self._alive, "an agent that was given up is asked nothing more"
        message = protocol.decode(line)
        if self._board.wrong is not None and self._board.wrong[0] == message["request"]:
            reply, self._board.wrong = self._board.wrong[1], None
            return reply.replace(b"4711", str(message["id"]).encode()) + b"\n"
        return protocol.encode(protocol.success(message["id"], self._board.told[message["request"]]))

    def last_words(self) -> str:
        return "\x1b[2J about to \udc80 fall"

    def kill(self) -> None:
        self._alive = False

    def stop(self) -> None:
        self._alive = False


class Recording(LocalConnection):
    """Keeps what the agents of this machine answer."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, Any] = {}

    def start_agent(self) -> AgentProcess:
        agent = super().start_agent()
        exchange = agent.exchange

        def recorded(line: bytes, timeout_s: float) -> bytes:
            reply = exchange(line, timeout_s)
            self.told.setdefault(json.loads(line)["request"], json.loads(reply)["result"])
            return reply

        agent.exchange = recorded  # type: ignore[method-assign]
        return agent


@pytest.fixture(scope="module")
def recorded() -> tuple[dict[str, Any], Engine]:
    """The results of a real agent, by request, and the engine that they are about."""
    recording = Recording()
    with Device(load_target("host-cpu"), recording) as device:
        engine = device.compile(CANARY)
        for call in CALLS.values():
            call(device, engine)
    return recording.told, engine


def test_each_reply_is_taken_if_nothing_is_wrong_with_it(recorded: tuple[dict[str, Any], Engine]) -> None:
    told, engine = recorded
    assert set(CALLS) <= set(told)
    board = Board(told)
    with Device(load_target("host-cpu"), board) as device:
        for call in CALLS.values():
            call(device, engine)
    assert board.started == 1


def test_every_malformed_reply_is_one_error_and_the_next_request_is_met(
    recorded: tuple[dict[str, Any], Engine],
) -> None:
    told, engine = recorded
    refusal = protocol.failure(4711, protocol.AgentError("model-refused", "it is one"))
    lines = {name: malformed([protocol.success(4711, told[name]), refusal]) for name in CALLS}
    wrong = st.one_of([st.tuples(st.just(name), replies) for name, replies in lines.items()])

    @settings(max_examples=BOARDS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(wrong, min_size=REPLIES, max_size=REPLIES))
    def check(replies: list[tuple[str, bytes]]) -> None:
        board = Board(told)
        with Device(load_target("host-cpu"), board) as device:
            for board.wrong in replies:
                name = board.wrong[0]
                if name == "hello" and device._dialogue.agent is not None:
                    device._dialogue.agent.kill()
                try:
                    CALLS[name](device, engine)
                except HwnasError as error:
                    assert str(error).isprintable()
                assert board.wrong is None, "the reply was not come by, so the device is stuck"
            assert device.fingerprint().identity == told["fingerprint"]["identity"]

    check()
