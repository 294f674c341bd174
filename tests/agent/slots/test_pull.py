"""Channels: a board takes what is offered, by whatever server, and nothing that is older, expired or another's."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots.installing import Outcome
from hwnas.agent.slots.pull import Pull
from hwnas.agent.slots.slots import Slots
from hwnas.agent.slots.source import Source
from tests.deploy.bundles import CHANNEL_TYPE, TinyBundle, canonical, keyid, make_key, signed, tiny_bundle
from tests.deploy.fakes import FakeBuilder, FakeHealth, board

ONE, TWO = (tiny_bundle(version=version, real=False) for version in (1, 2))
NOON = 1795694400.0  # 2026-11-26 12:00 UTC


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return board(tmp_path / "root")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "www").mkdir()
    return tmp_path / "www"


def publish(place: Path, bundle: TinyBundle, version: int = 1, key: Any = None, **changes: Any) -> None:
    """Write a channel that offers a bundle."""
    file = bundle.write(place).name
    offer = {
        "version": bundle.manifest["version"],
        "file": file,
        "bytes": len(bundle.archive),
        "sha256": bundle.sha256,
        "digest": bundle.digest,
        **changes.pop("offer", {}),
    }
    channel = {
        "schema": 1,
        "kind": "channel",
        "name": "cameras",
        "version": version,
        "published": "2026-11-26T11:00:00Z",
        "expires": "2026-12-26T12:00:00Z",
        "bundle": offer,
        **changes,
    }
    (place / "channel.json").write_bytes(signed(canonical(channel), [key or make_key()], CHANNEL_TYPE))


def pull(slots: Slots, place: object, now: float = NOON, health: FakeHealth | None = None, **options: Any) -> Outcome:
    puller = Pull(
        slots, Source(str(place)), FakeBuilder(), health or FakeHealth(), now=lambda: now, sleep=lambda _: None
    )
    return puller.run(**options)


def refused(kind: str, *arguments: Any, **options: Any) -> str:
    slots: Slots = arguments[0]
    before = slots.status()
    with pytest.raises(AgentError) as error:
        pull(*arguments, **options)
    assert error.value.kind == kind, error.value.message
    after = slots.status()
    assert (after["current"], set(after["slots"])) == (before["current"], set(before["slots"]))
    return error.value.message


@pytest.mark.parametrize("form", ["directory", "file"])
def test_a_board_takes_what_is_offered_and_then_what_is_newer(slots: Slots, place: Path, form: str) -> None:
    where = place if form == "directory" else place.as_uri() + "/"
    publish(place, ONE)
    assert pull(slots, where).outcome == "confirmed"
    (place / "cameras-v1.tar.gz").unlink()
    assert pull(slots, where).outcome == "unchanged", "and nothing is fetched"
    publish(place, TWO, version=2)
    assert pull(slots, where).outcome == "confirmed"
    assert (slots.status()["current"], slots.status()["previous"]) == (TWO.digest, ONE.digest)


def test_metadata_that_is_not_to_be_believed(slots: Slots, place: Path) -> None:
    publish(place, ONE, key=make_key(9))
    assert "the board trusts key 6cdd" in refused(ErrorKind.UNTRUSTED, slots, place)
    (place / "channel.json").write_bytes(ONE.envelope)
    assert "of type" in refused(ErrorKind.BAD_BUNDLE, slots, place), "a bundle's envelope is no channel's"
    (place / "channel.json").write_bytes(bytes(70_000))
    assert "is larger than" in refused(ErrorKind.BAD_BUNDLE, slots, place)
    (place / "channel.json").unlink()
    assert "cannot be had" in refused(ErrorKind.TIMEOUT, slots, place)
    publish(place, ONE)
    assert "is 'cameras', not 'doors'" in refused(ErrorKind.BAD_BUNDLE, slots, place, name="doors")
    slots.revoke(keyid(make_key()), "lost")
    assert "was revoked" in refused(ErrorKind.UNTRUSTED, slots, place)


def test_time_decides_of_metadata(slots: Slots, place: Path) -> None:
    publish(place, ONE)
    assert "expired at 2026-12-26T12:00:00Z" in refused(ErrorKind.TOO_OLD, slots, place, now=NOON + 30 * 86400 + 1)
    assert "set its clock" in refused(ErrorKind.TOO_OLD, slots, place, now=NOON - 3600 - 301)
    assert pull(slots, place, now=NOON - 3600 - 299).outcome == "confirmed"


def test_metadata_never_goes_back(slots: Slots, place: Path) -> None:
    publish(place, TWO, version=5)
    pull(slots, place)
    publish(place, ONE, version=4)
    assert "the board has seen version 5" in refused(ErrorKind.TOO_OLD, slots, place)
    publish(place, TWO, version=5, expires="2036-01-01T00:00:00Z")
    assert "said something else before" in refused(ErrorKind.UNTRUSTED, slots, place)
    publish(place, ONE, version=6)
    assert "version 1 of 'cameras' is refused" in refused(ErrorKind.TOO_OLD, slots, place), "nor do bundles"
    publish(place, tiny_bundle(name="doors", real=False), version=1, name="doors")
    assert pull(slots, place).outcome == "confirmed", "each channel has its own count"


def test_the_version_is_remembered_before_anything_is_fetched(slots: Slots, place: Path) -> None:
    publish(place, TWO, version=5)
    (place / "cameras-v2.tar.gz").unlink()
    refused(ErrorKind.TIMEOUT, slots, place)
    publish(place, ONE, version=4)
    refused(ErrorKind.TOO_OLD, slots, place)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"kind": "bundle"},
        {"name": "../x"},
        {"version": 0},
        {"published": "yesterday"},
        {"expires": None},
        {"surprise": 1},
        {"offer": {"file": "../cameras.tar.gz"}},
        {"offer": {"file": "https://elsewhere/cameras.tar.gz"}},
        {"offer": {"sha256": "A" * 64}},
        {"offer": {"bytes": 0}},
        {"offer": {"surprise": 1}},
        {"offer": {"digest": "1"}},
    ],
)
def test_a_channel_that_says_something_else_than_it_may(slots: Slots, place: Path, changes: dict[str, Any]) -> None:
    publish(place, ONE, **changes)
    assert "the channel" in refused(ErrorKind.BAD_BUNDLE, slots, place)


def test_the_file_must_be_the_one_that_is_offered(slots: Slots, place: Path) -> None:
    publish(place, ONE)
    archive = bytearray(ONE.archive)
    archive[-20] ^= 1
    (place / "cameras-v1.tar.gz").write_bytes(archive)
    assert "was thrown away" in refused(ErrorKind.BAD_BUNDLE, slots, place)
    (place / "cameras-v1.tar.gz").write_bytes(ONE.archive[:-1])
    assert "ends after" in refused(ErrorKind.TIMEOUT, slots, place)
    (place / "cameras-v1.tar.gz").write_bytes(ONE.archive + b"more")
    assert pull(slots, place).outcome == "confirmed", "no more is fetched than was offered"


@pytest.mark.parametrize("odd", [{"version": 3}, {"digest": "0" * 64}])
def test_another_bundle_than_the_channel_vouches_for(slots: Slots, place: Path, odd: dict[str, Any]) -> None:
    publish(place, ONE, offer=odd)
    with pytest.raises(AgentError, match="another bundle than the channel offers"):
        pull(slots, place)
    assert slots.current() is None


def test_what_failed_is_not_tried_again_and_again(slots: Slots, place: Path) -> None:
    publish(place, ONE)
    assert pull(slots, place, health=FakeHealth(complaint="too slow")).outcome == "unhealthy"
    assert "is failed here (model m0: too slow)" in refused(ErrorKind.UNHEALTHY, slots, place)
    assert pull(slots, place, again=True).outcome == "confirmed"


@pytest.mark.parametrize("place", ["ftp://x/y", "data:,x"])
def test_other_ways_to_a_channel_are_none(slots: Slots, place: str) -> None:
    refused(ErrorKind.BAD_REQUEST, slots, place)


class Web(http.server.ThreadingHTTPServer):
    """A web server that breaks off, knows ranges or not, and remembers what it was asked."""

    def __init__(self, directory: Path, ranges: bool, break_off_at: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.directory, self.ranges, self.break_off_at = directory, ranges, break_off_at
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Page(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        path = self.server.directory / self.path.strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, start = path.read_bytes(), 0
        if path.suffix == ".gz":
            self.server.asked.append(self.headers.get("Range"))
            if self.server.ranges and self.headers.get("Range"):
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) and start:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = len(content)
        if path.suffix == ".gz" and self.server.break_off_at:
            end = self.server.break_off_at.pop(0)
        self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(place: Path, request: pytest.FixtureRequest) -> Iterator[Web]:
    server = Web(place, *request.param)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


LARGE = tiny_bundle(real=False, extra={"noise.bin": make_key().sign(b"noise") * 20_000})


@pytest.mark.parametrize("web", [(True, [3000, 5000])], indirect=True)
def test_a_download_that_breaks_off_goes_on_where_it_was(slots: Slots, place: Path, web: Web) -> None:
    publish(place, LARGE)
    assert pull(slots, web.url).outcome == "confirmed"
    assert web.asked == [None, "bytes=3000-", "bytes=5000-"]


@pytest.mark.parametrize("web", [(False, [3000])], indirect=True)
def test_a_server_that_knows_no_ranges_is_asked_anew(slots: Slots, place: Path, web: Web) -> None:
    publish(place, LARGE)
    assert pull(slots, web.url.rstrip("/")).outcome == "confirmed"
    assert web.asked == [None, "bytes=3000-"]


@pytest.mark.parametrize("web", [(True, [])], indirect=True)
def test_what_lay_here_before_is_not_trusted(slots: Slots, place: Path, web: Web) -> None:
    publish(place, LARGE)
    slots.put(LARGE.sha256, 0, len(LARGE.archive), bytes(1000))
    assert pull(slots, web.url).outcome == "confirmed"
    assert web.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("web", [(True, [0] * 9)], indirect=True)
def test_a_server_that_never_gives_anything(slots: Slots, place: Path, web: Web) -> None:
    publish(place, LARGE)
    assert "ends after 0" in refused(ErrorKind.TIMEOUT, slots, web.url)
    assert len(web.asked) == 5
    (place / "cameras-v1.tar.gz").unlink()
    assert "404" in refused(ErrorKind.TIMEOUT, slots, web.url)


@pytest.mark.parametrize("web", [(True, [])], indirect=True)
def test_a_file_that_is_shorter_than_what_is_here(slots: Slots, place: Path, web: Web) -> None:
    publish(place, LARGE)
    slots.put(LARGE.sha256, 0, len(LARGE.archive), LARGE.archive[:5000])
    (place / "cameras-v1.tar.gz").write_bytes(LARGE.archive[:4000])
    assert "ends after 4000" in refused(ErrorKind.TIMEOUT, slots, web.url)


def test_nobody_listens(slots: Slots) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
    assert "cannot be had" in refused(ErrorKind.TIMEOUT, slots, url)
