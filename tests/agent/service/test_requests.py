"""What a service takes, and what it refuses: one service for all of these tests, which it outlives."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.agent.protocol import AgentError
from tests.agent.service.board import PATIENCE_S, Board, golden, npy, pareto_bundle, until

ONE = pareto_bundle(1)
BODY = npy(golden(ONE, "slow")[0])
BODY_MIB = 1
OFTEN = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board that serves one bundle with a short queue."""
    made = Board(tmp_path_factory.mktemp("board"))
    made.point(ONE)
    with made.serving("--queue", "3", "--body-mib", str(BODY_MIB)) as process:
        made.when(ready=True)
        yield made
        np.testing.assert_allclose(
            made.client.infer(golden(ONE, "slow")[0])["logits"], golden(ONE, "slow")[1], rtol=1e-2, atol=1e-3
        )
        assert process.poll() is None


def sentence(content: bytes) -> str:
    """The one sentence of a refusal."""
    told = json.loads(content)
    assert list(told) == ["error"]
    assert told["error"]
    assert "\n" not in told["error"]
    return str(told["error"])


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_samples_is_answered(board: Board, count: int) -> None:
    inputs, outputs = golden(ONE, "slow")
    many, expected = np.concatenate([inputs] * 2)[:count], np.concatenate([outputs] * 2)[:count]
    status, headers, content = board.ask("POST", "/infer", npy(many))
    assert (status, headers["Content-Type"], headers["Hwnas-Slot"]) == (200, "application/x-npy", ONE.digest)
    found = np.load(io.BytesIO(content), allow_pickle=False)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((1, 3, 4, 4), np.float64), "takes float32 [1, 3, 4, 4] a batch, found float64"),
        (np.zeros((3, 4, 4), np.float32), "found float32 [3, 4, 4]"),
        (np.zeros((1, 4, 4, 3), np.float32), "found float32 [1, 4, 4, 3]"),
        (np.float32(1), "found float32 []"),
        (np.array([{"a": 1}]), "only booleans, whole numbers and floats are read"),
    ],
)
def test_samples_of_another_kind_are_refused(board: Board, array: np.ndarray, says: str) -> None:
    status, _, content = board.ask("POST", "/infer", npy(array))
    assert status == 400
    assert says in sentence(content)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(board: Board) -> None:
    status, _, content = board.ask("POST", "/infer", bytes((BODY_MIB << 20) + 1))
    assert status == 413
    assert "at most 1048576 are taken" in sentence(content)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 404),
        ("GET", "/infer", {}, 405),
        ("DELETE", "/budget", {}, 405),
        ("BREW", "/health", {}, 405),
        ("HEAD", "/metrics", {}, 405),
        ("POST", "/health", {}, 405),
        ("GET", "/health", {"Origin": "http://example.org"}, 403),
        ("GET", "/health?seconds=nan", {}, 400),
        ("POST", "/budget", {"Origin": "null"}, 403),
        ("POST", "/infer", {"Content-Length": "-1"}, 400),
        ("POST", "/infer", {"Content-Length": "1e3"}, 400),
        ("POST", "/infer", {"Content-Length": "9" * 30}, 400),
        ("POST", "/infer", {"Transfer-Encoding": "chunked"}, 411),
        ("POST", "/infer", {}, 411),
        ("POST", "/budget", {"Content-Length": "5000"}, 413),
    ],
)
def test_requests_that_are_none_have_their_status(
    board: Board, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    with contextlib.closing(board.connect()) as connection:
        connection.putrequest(method, path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        content = response.read()
    assert response.status == status
    if method != "HEAD":
        sentence(content)
    if status == 405:
        assert response.headers["Allow"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[]", b"5", b'{"latency_ms": 0}', b'{"latency_ms": -1}', b'{"latency_ms": "5"}'),
        *(b'{"latency_ms"', b'{"latency_ms": NaN}', b'{"latency_ms": 1, "more": 2}', b'{"latency_ms": true}'),
        *(b"\xff", b"[" * 3000),
    ],
)
def test_a_budget_that_is_none_is_refused(board: Board, body: bytes) -> None:
    before = board.ask("GET", "/budget")
    status, _, content = board.ask("POST", "/budget", body)
    assert status == 400
    sentence(content)
    assert json.loads(board.ask("GET", "/budget")[2]) == json.loads(before[2])


@OFTEN
@given(st.data())
def test_a_damaged_body_is_refused_or_still_an_array(board: Board, data: st.DataObject) -> None:
    body = bytearray(BODY)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, 140))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(0, len(body)) | st.just(len(body)))]
    status, _, content = board.ask("POST", "/infer", bytes(body))
    if status == 200:
        np.load(io.BytesIO(content), allow_pickle=False)
    else:
        assert status == 400
        sentence(content)


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
LINES = st.one_of(
    st.binary(max_size=80),
    st.builds("{} {} {}".format, WORDS, WORDS, st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/9", "HTTP/x.y", ""])).map(
        str.encode
    ),
)
HEADERS = st.lists(st.tuples(WORDS, st.text(st.characters(max_codepoint=255), max_size=20)), max_size=4)


@OFTEN
@given(LINES, HEADERS, st.binary(max_size=200))
def test_what_is_no_http_is_refused_or_hung_up_on(
    board: Board, line: bytes, headers: list[tuple[str, str]], rest: bytes
) -> None:
    record = board.record()
    assert record is not None
    host, port = record["address"].split(":")
    head = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in headers)
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(line + b"\r\n" + head + b"\r\n" + rest)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    if answer.startswith(b"HTTP/"):
        assert answer.split(b" ", 2)[1][:1] in (b"4", b"5")
    board.client.health()


def test_a_client_that_asks_first_is_told_to_go_on(board: Board) -> None:
    head = b"POST /infer HTTP/1.1\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY)
    with contextlib.closing(board.connect()) as connection:
        connection.connect()
        connection.sock.sendall(head)
        assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sock.sendall(BODY)
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_leaves_in_the_midst_leaves_no_trace(board: Board) -> None:
    with contextlib.closing(board.connect()) as connection:
        connection.putrequest("POST", "/infer")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders()
        connection.send(BODY[:100])
        board.when(waiting=1)
    board.when(waiting=0)


def test_more_requests_than_may_wait_are_told_to_come_again(board: Board) -> None:
    answers: list[tuple[int, str | None]] = []

    def ask() -> None:
        status, headers, _ = board.ask("POST", "/infer", BODY)
        answers.append((status, headers.get("Retry-After")))

    board.ask("POST", "/quiesce", None, board.bearer)
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) >= 9)
    expired = json.loads(board.ask("POST", "/resume", None, board.bearer)[2])["expired"]
    for thread in threads:
        thread.join()
    assert expired or sorted(answers, key=str) == [(200, None)] * 3 + [(503, "1")] * 9


def test_a_pause_needs_the_token_and_ends_by_itself(board: Board) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer \xe4"}):
        assert board.ask("POST", "/quiesce", b"{}", headers)[0] == 403
        assert board.ask("POST", "/resume", b"{}", headers)[0] == 403
    assert board.ask("POST", "/resume", b"{}", board.bearer)[0] == 400
    for seconds in (b"0", b"2.1", b"-1", b'"1"', b"1e999"):
        assert board.ask("POST", "/quiesce", b'{"seconds": %s}' % seconds, board.bearer)[0] == 400
    with board.client.quiesced(2.0) as pause, pytest.raises(AgentError, match="paused already"):
        board.client.quiesced().__enter__()
    with board.client.quiesced(0.01) as pause:
        board.client.infer(golden(ONE, "slow")[0])
    assert not pause.held


def test_requests_follow_each_other_on_one_connection(board: Board) -> None:
    with contextlib.closing(board.connect()) as connection:
        for path in ("/health", "/nothing", "/metrics", "/budget"):
            connection.request("GET", path)
            response: http.client.HTTPResponse = connection.getresponse()
            response.read()
            assert response.getheader("Connection") is None
