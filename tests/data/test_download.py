"""The downloader against a real server on this machine, with the troubles of real ones."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hwnas.data.download import RemoteFile, fetch
from hwnas.errors import UserError
from hwnas.progress import Silent

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does; ``ranges`` lists the Range header of each request."""

    content: bytes = CONTENT
    resumable: bool = True
    breaks_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    wrong_range: bool = False
    hangs: bool = False
    ranges: list[str | None] = field(default_factory=list)


@dataclass
class Server:
    address: str
    behaviour: Behaviour


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Behaviour()
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            behaviour.ranges.append(asked)
            if self.path == "/absent":
                self.send_error(404)
                return
            if behaviour.statuses:
                self.send_error(behaviour.statuses.pop(0))
                return
            start = 0
            if asked and behaviour.resumable:
                match = re.fullmatch(r"bytes=(\d+)-", asked)
                assert match
                start = int(match[1])
                self.send_response(206)
                told = 0 if behaviour.wrong_range else start
                self.send_header("Content-Range", f"bytes {told}-{len(behaviour.content) - 1}/{len(behaviour.content)}")
            else:
                self.send_response(200)
            rest = behaviour.content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            if behaviour.hangs:
                released.wait(20)
            if behaviour.breaks_after:
                rest = rest[: behaviour.breaks_after.pop(0)]
                self.close_connection = True
            self.wfile.write(rest)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield Server(f"http://127.0.0.1:{httpd.server_port}", behaviour)
    released.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def remote(server: Server, *paths: str) -> RemoteFile:
    return RemoteFile(
        "data.bin", tuple(f"{server.address}/{path}" for path in paths or ("data",)), SHA256, len(CONTENT)
    )


def get(file: RemoteFile, directory: Path, timeout: float = 10) -> Path:
    return fetch(file, directory, Silent(), timeout=timeout, pause=0.001)


def left_over(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.suffix != ".lock")


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    path = get(remote(server), tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert get(remote(server), tmp_path / "new") == path
    assert server.behaviour.ranges == [None]
    assert left_over(tmp_path / "new") == ["data.bin"]


def test_a_broken_connection_goes_on_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.behaviour.breaks_after = [300_000, 100_000, 1]
    assert get(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.behaviour.ranges == [None, "bytes=300000-", "bytes=400000-", "bytes=400001-"]


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.behaviour.breaks_after = [300_000]
    server.behaviour.resumable = False
    assert get(remote(server), tmp_path).read_bytes() == CONTENT


def test_what_has_arrived_serves_the_next_call(server: Server, tmp_path: Path) -> None:
    server.behaviour.breaks_after = [600_000, 0, 0, 0, 0]
    with pytest.raises(UserError, match=r"broken off after 600000 of 1000000 bytes.*goes on where it stopped"):
        get(remote(server), tmp_path)
    assert left_over(tmp_path) == ["data.bin.part"]
    server.behaviour.ranges.clear()
    assert get(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.behaviour.ranges == ["bytes=600000-"]


@pytest.mark.parametrize("found", [b"x" * 5000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)])
def test_a_part_of_something_else_is_replaced(server: Server, tmp_path: Path, found: bytes) -> None:
    (tmp_path / "data.bin.part").write_bytes(found)
    assert get(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    assert get(RemoteFile("data.bin", ("http://127.0.0.1:9/",), SHA256, len(CONTENT)), tmp_path).exists()


def test_a_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(CONTENT[:-1] + b"x")
    assert get(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"y" + CONTENT[1:], CONTENT + b"y"])
def test_other_content_is_refused(server: Server, tmp_path: Path, content: bytes) -> None:
    server.behaviour.content = content
    with pytest.raises(UserError, match=r"wrong content|more than the 1000000 bytes"):
        get(remote(server), tmp_path)
    assert not (tmp_path / "data.bin").exists()


def test_the_next_address_is_tried(server: Server, tmp_path: Path) -> None:
    assert get(remote(server, "absent", "data"), tmp_path).read_bytes() == CONTENT
    assert len(server.behaviour.ranges) == 2


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.behaviour.statuses = [503, 429]
    assert get(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_server_that_resumes_elsewhere_is_refused(server: Server, tmp_path: Path) -> None:
    server.behaviour.wrong_range = True
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(UserError, match="asked to go on at byte 1000"):
        get(remote(server), tmp_path)


def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    server.behaviour.hangs = True
    with pytest.raises(UserError, match=r"timed out|broken off"):
        fetch(remote(server), tmp_path, Silent(), timeout=0.2, attempts=2, pause=0.001)


def test_no_server_and_no_such_page_are_told_with_the_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: HTTP 404"):
        get(remote(server, "absent"), tmp_path)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/.*refused"):
        get(RemoteFile("data.bin", ("http://127.0.0.1:9/",), SHA256, 5), tmp_path)
    with pytest.raises(UserError, match="neither http nor https"):
        get(RemoteFile("data.bin", ("file:///etc/hostname",), SHA256, 5), tmp_path)


def test_two_callers_share_one_download(server: Server, tmp_path: Path) -> None:
    threads = [threading.Thread(target=get, args=(remote(server), tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.behaviour.ranges == [None]


def test_progress_tells_all_bytes(server: Server, tmp_path: Path) -> None:
    told: list[tuple[float, float]] = []

    class Recorder(Silent):
        def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
            told.append((total, done))

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            told[-1] = (told[-1][0], told[-1][1] + amount)

    server.behaviour.breaks_after = [300_000]
    fetch(remote(server), tmp_path, Recorder(), pause=0.001)
    assert told == [(1_000_000, 300_000), (1_000_000, 1_000_000)]
