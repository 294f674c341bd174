"""Requests that are none: each has one refusal, and the agent answers the next one as if nothing had been."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.agent import arrays, protocol, runtimes
from hwnas.agent.protocol import ErrorKind
from hwnas.agent.server import Agent, serve
from tests.malformed import malformed

STREAMS, LINES = 500, 10
NO_ENGINE = "0123456789abcdef"
LIMITS = ("knobs", "generator", "seconds", "min_seconds", "max_seconds", "warmUp", "duration")
MODEL = b"fine"
SHA256 = hashlib.sha256(MODEL).hexdigest()
COMPILING: dict[str, Any] = {
    "runtime": "faulty",
    "provider": "none",
    "precision": "fp32",
    "threads": 1,
    "build": {
        "workspace_mib": 1,
        "hardware_compatibility": "none",
        "compute_capabilities": ["8.6"],
        "batch_range": [1, 2, 3],
        "tensor_scales": [["a", 0.5]],
        "timeout_s": 1.0,
    },
    "execution": {"cuda_graph": False},
}


def ask(agent: Agent, request: str, **fields: Any) -> Any:
    reply = agent.answer(protocol.encode({"id": 1, "request": request, **fields}))
    assert reply["ok"], reply
    return reply["result"]


def put(content: bytes) -> dict[str, Any]:
    sha256, data = hashlib.sha256(content).hexdigest(), base64.b64encode(content).decode()
    return {"sha256": sha256, "offset": 0, "size": len(content), "data": data}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(runtimes.RUNTIMES, "faulty", "tests.devices.faulty_agent:FaultyRuntime")
        yield Agent(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def engine(agent: Agent) -> str:
    ask(agent, "put-blob", **put(MODEL))
    return str(ask(agent, "compile", sha256=SHA256, **COMPILING)["engine"])


@pytest.fixture(scope="module")
def requests(engine: str) -> list[dict[str, Any]]:
    """Each is met, and at once, if nothing is wrong with it."""
    quick = {"min_samples": 1, "max_seconds": 1e-3, "warmup_max_seconds": 1e-3, "runs_per_batch": 1, "gate": True}
    scenario = {"scenario": "offline", "percentile": 0.9, "min_queries": 1, "min_seconds": 0.0, "max_seconds": 1e-3}
    of: dict[str, dict[str, Any]] = {
        "hello": {},
        "fingerprint": COMPILING,
        "blob-status": {"sha256": SHA256},
        "put-blob": put(b"another"),
        "compile": {"sha256": SHA256, **COMPILING},
        "explain": {"engine": engine},
        "get-engine": {"engine": engine, "offset": 0},
        "measure": {"engine": engine, "protocol": {**quick, "canary": "small", "seed": 0}, "fast_state_ns": 1e5},
        "measure-queries": {
            "engine": engine,
            "like": "trtexec-10",
            "knobs": {"warmUp": 0.0, "duration": 1e-3, "iterations": 1, "percentile": [90]},
        },
        "time-loading": {"engine": engine},
        "learn-fast-state": {**COMPILING, "seconds": 1e-3, "canary": "small"},
        "scenario": {"engine": engine, "knobs": {**scenario, "distinct_samples": 1, "generator": "hwnas"}},
        "infer": {
            "engine": engine,
            "input": arrays.pack(np.zeros((2, 3, 4, 4), np.float32)),
            "outputs": ["logits"],
        },
        "peak-memory": {"engine": NO_ENGINE},
        "release": {"engine": NO_ENGINE, "sha256": hashlib.sha256(b"another").hexdigest()},
    }
    return [{"id": 7, "request": name, **fields} for name, fields in of.items()]


def answers(agent: Agent, stream: bytes) -> list[dict[str, Any]]:
    """What the agent says to a stream; every line must be strict JSON."""
    replies = io.BytesIO()
    serve(io.BytesIO(stream), replies, agent)
    return [protocol.decode(line) for line in replies.getvalue().splitlines()]


def test_each_request_is_met_if_nothing_is_wrong_with_it(agent: Agent, requests: list[dict[str, Any]]) -> None:
    replies = answers(agent, b"".join(map(protocol.encode, requests)))
    refused = {
        request["request"]: reply["error"] for request, reply in zip(requests, replies, strict=True) if not reply["ok"]
    }
    assert set(refused) == {"peak-memory"}, refused
    assert refused["peak-memory"]["kind"] == ErrorKind.UNKNOWN_ENGINE


def test_every_malformed_request_has_one_answer_and_leaves_the_agent_as_it_was(
    agent: Agent, engine: str, requests: list[dict[str, Any]]
) -> None:
    @settings(max_examples=STREAMS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(malformed(requests, LIMITS), min_size=LINES, max_size=LINES))
    def check(lines: list[bytes]) -> None:
        replies = answers(agent, b"".join(line + b"\n" for line in lines))
        assert len(replies) == sum(1 for line in lines if line.strip())
        for reply in replies:
            assert reply["ok"] or reply["error"]["kind"] != ErrorKind.INTERNAL, reply
        assert not agent.finished
        assert ask(agent, "get-engine", engine=engine, offset=0)["data"]

    check()


@settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.binary(max_size=20) | st.text(max_size=10).map(str.encode), min_size=1, max_size=8), st.booleans())
def test_every_stream_of_garbage_has_one_refusal_a_line(agent: Agent, pieces: list[bytes], torn: bool) -> None:
    stream = b"\n".join(pieces) + (b"" if torn else b"\n")
    whole, last = stream.split(b"\n")[:-1], stream.split(b"\n")[-1]
    replies = answers(agent, stream)
    assert len(replies) == sum(1 for line in whole if line.strip()) + bool(last)
    assert {reply["error"]["kind"] for reply in replies} <= {ErrorKind.BAD_REQUEST}
    assert all(reply["id"] is None for reply in replies)


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_LINE_BYTES", 1000)
    hello = protocol.encode({"id": 1, "request": "hello"})
    first, second = answers(agent, hello + b'{"id": 2, "request": "' + b"x" * 10**4 + b'"}\n' + hello)
    assert first["ok"]
    assert "is torn or exceeds 1000 bytes" in second["error"]["message"], "and nothing after it is taken for a message"
