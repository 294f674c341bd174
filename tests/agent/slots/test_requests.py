"""What a host asks of slots, through an agent, and what a person asks on the board itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent import __main__ as entry
from hwnas.agent.environment import undisturbed
from hwnas.agent.protocol import encode
from hwnas.agent.server import Agent
from hwnas.agent.slots import command, health
from hwnas.agent.slots.installing import reported, take
from hwnas.agent.slots.layout import default_root
from hwnas.agent.slots.requests import SlotRequests
from hwnas.agent.slots.slots import Slots
from hwnas.devices.zipapp import agent_zipapp
from tests.deploy.bundles import TinyBundle, keyid, make_key, public_hex, tiny_bundle
from tests.deploy.fakes import FakeBuilder, FakeHealth, QuickDisk, board, deliver, send

ONE, TWO = (tiny_bundle(version=version, real=False) for version in (1, 2))


class Host:
    """Asks an agent, with a builder and a health check that take no time."""

    def __init__(self, home: Path, root: Path) -> None:
        home.mkdir()
        self.health = FakeHealth()
        self.agent = Agent(home, SlotRequests(QuickDisk, FakeBuilder, lambda *_: self.health))
        self.root = root

    def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        reply = self.refusable(request, **fields)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def refusable(self, request: str, **fields: Any) -> dict[str, Any]:
        reply = self.agent.answer(encode({"id": 1, "request": f"slots-{request}", "root": str(self.root), **fields}))
        json.dumps(reply, allow_nan=False)
        return reply

    def send(self, bundle: TinyBundle) -> None:
        size = len(bundle.archive)
        received = self.ask("receive", sha256=bundle.sha256, size=size)["received"]
        for offset in range(received, size, 3000):
            data = base64.b64encode(bundle.archive[offset : offset + 3000]).decode()
            received = self.ask("put", sha256=bundle.sha256, offset=offset, size=size, data=data)["received"]
        assert received == size


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host of a board that trusts the usual key."""
    host = Host(tmp_path / "home", tmp_path / "root")
    host.ask("trust", public=public_hex(make_key()), comment="mine")
    yield host
    host.agent.close()


def test_a_host_leads_a_bundle_through_all_states(host: Host) -> None:
    host.send(ONE)
    verified = host.ask("verify", sha256=ONE.sha256)
    assert verified == {
        "digest": ONE.digest,
        "name": "cameras",
        "version": 1,
        "keyid": keyid(make_key()),
        "state": "verified",
    }
    assert host.ask("build", digest=ONE.digest)["models"]["m0"]["origin"] == "built"
    assert host.ask("check", digest=ONE.digest)["healthy"] is True
    assert host.ask("activate", digest=ONE.digest) == {"current": ONE.digest, "previous": None}
    assert host.ask("confirm", digest=ONE.digest) == {"current": ONE.digest, "previous": None}
    host.send(TWO)
    assert host.ask("install", sha256=TWO.sha256)["outcome"] == "confirmed"
    assert host.ask("install", sha256=TWO.sha256)["outcome"] == "unchanged"
    assert host.ask("rollback", reason="by hand") == {"current": ONE.digest, "previous": None}
    assert host.ask("collect") == {"removed": [TWO.digest]}
    assert [event["event"] for event in host.ask("audit", last=2)["events"]] == ["rollback", "collected"]
    assert host.ask("status")["current"] == ONE.digest


def test_an_upload_tells_what_is_here_so_that_the_host_can_compare(host: Host) -> None:
    size, data = len(ONE.archive), base64.b64encode(ONE.archive[:1000]).decode()
    host.ask("put", sha256=ONE.sha256, offset=0, size=size, data=data)
    received = host.ask("receive", sha256=ONE.sha256, size=size)
    assert received == {"received": 1000, "prefix_sha256": hashlib.sha256(ONE.archive[:1000]).hexdigest()}


@pytest.mark.parametrize(
    ("request_", "fields", "kind"),
    [
        ("verify", {"sha256": "x"}, "bad-request"),
        ("verify", {}, "bad-request"),
        ("receive", {"sha256": "0" * 64, "size": 0}, "bad-request"),
        ("receive", {"sha256": "0" * 64, "size": 1 << 52}, "disk"),
        ("put", {"sha256": "0" * 64, "offset": 0, "size": 3, "data": "!"}, "bad-request"),
        ("trust", {"public": "00"}, "bad-request"),
        ("trust", {"public": public_hex(make_key(1))}, "untrusted"),
        ("activate", {"digest": "0" * 64}, "bad-request"),
        ("confirm", {"digest": "0" * 64}, "bad-request"),
        ("rollback", {"reason": "r"}, "bad-request"),
        ("rollback", {}, "bad-request"),
        ("collect", {"keep": 1}, "bad-request"),
        ("audit", {"last": 0}, "bad-request"),
        ("status", {"root": 1}, "bad-request"),
    ],
)
def test_what_cannot_be_met_is_refused_by_kind(host: Host, request_: str, fields: dict[str, Any], kind: str) -> None:
    error = host.refusable(request_, **fields)["error"]
    assert error["kind"] == kind, error


def test_a_slot_that_the_service_does_not_take_is_not_confirmed(host: Host) -> None:
    host.send(ONE)
    host.ask("verify", sha256=ONE.sha256)
    for step in ("build", "check", "activate"):
        host.ask(step, digest=ONE.digest)
    host.health = FakeHealth(refusal="it cannot be loaded")
    error = host.refusable("confirm", digest=ONE.digest)["error"]
    assert error == {"kind": "unhealthy", "message": "it cannot be loaded"}
    assert host.ask("rollback", reason="it cannot be loaded") == {"current": None, "previous": None}


def test_where_slots_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWNAS_SLOTS", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert default_root() == Path("/var/lib/hwnas")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_root() == Path("/home/somebody/.local/share/hwnas")
    monkeypatch.setenv("HWNAS_SLOTS", "/data/hwnas")
    assert default_root() == Path("/data/hwnas")


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    slots = board(tmp_path / "root")
    deliver(slots, ONE)
    deliver(slots, TWO)
    return slots


def on_board(slots: Slots, *arguments: str) -> int:
    name, *rest = arguments
    return command.main([name, "--root", str(slots.root), *rest])


def test_a_person_sees_to_the_slots_on_the_board(slots: Slots, capsys: pytest.CaptureFixture[str]) -> None:
    assert on_board(slots, "status") == 0
    assert json.loads(capsys.readouterr().out)["current"] == TWO.digest
    assert on_board(slots, "boot-check") == 0
    assert capsys.readouterr().out == "nothing to roll back\n"
    assert on_board(slots, "confirm") == 0
    assert on_board(slots, "rollback") == 0
    assert capsys.readouterr().out.endswith(f"{ONE.digest} is current\n")
    assert on_board(slots, "rollback") == 1
    assert "bad-request: there is no slot to go back to" in capsys.readouterr().err
    assert on_board(slots, "gc") == 0
    assert on_board(slots, "gc") == 0
    assert capsys.readouterr().out == f"{TWO.digest}\nnothing to remove\n"
    assert on_board(slots, "trust", public_hex(make_key(1))) == 1
    assert on_board(slots, "trust", public_hex(make_key(1)), "--confirmed", "--comment", "theirs") == 0
    assert on_board(slots, "revoke", keyid(make_key(1)), "--reason", "lost") == 0
    capsys.readouterr()
    assert on_board(slots, "audit") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["event"] == "revoked"
    with pytest.raises(SystemExit):
        command.main(["surprise"])


def test_before_a_boot_an_unconfirmed_slot_is_reverted_unless_an_installer_is_at_work(
    slots: Slots, capsys: pytest.CaptureFixture[str]
) -> None:
    three = tiny_bundle(version=3, real=False)
    send(slots, three.archive, three.sha256)
    slots.build(slots.verify(three.sha256), FakeBuilder())
    slots.check(three.digest, FakeHealth())
    with Slots(slots.root, QuickDisk()).held():
        assert on_board(slots, "boot-check") == 0
    assert "an installer is at work" in capsys.readouterr().out
    slots.activate(three.digest)
    assert on_board(slots, "boot-check") == 0
    assert capsys.readouterr().out == f"{three.digest} was not confirmed and is rolled back\n"
    assert slots.current() == TWO.digest


def test_an_archive_that_is_not_there(slots: Slots, capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(lambda: pytest.fail(take(slots, Path("none.tar.gz")))) == 1
    assert capsys.readouterr().err == "none.tar.gz: No such file or directory\n"


def test_nothing_is_confirmed_where_nothing_is_active(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["confirm", "--root", str(tmp_path / "root")]) == 1
    assert "no slot is active" in capsys.readouterr().err


def test_the_service_must_serve_what_is_confirmed(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health.Health, "refusal", lambda *_, **__: "it still serves another")
    assert on_board(slots, "confirm") == 1
    assert capsys.readouterr().err == "unhealthy: it still serves another\n"


def test_the_agent_s_archive_installs_and_pulls_as_programs(tmp_path: Path) -> None:
    """Real engines, real processes, the standard library's way to the channel."""
    from tests.agent.slots.test_pull import publish

    agent, root, place = tmp_path / "hwnas-agent.pyz", tmp_path / "root", tmp_path / "www"
    agent.write_bytes(agent_zipapp())
    place.mkdir()
    first = tiny_bundle(version=1)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(agent), *arguments, "--root", str(root)]
        return subprocess.run(line, capture_output=True, text=True, check=False, env=undisturbed(os.environ))

    slots = board(root)
    installed = run("slots", "install", str(first.write(tmp_path)))
    assert (installed.returncode, installed.stdout) == (0, f"{first.digest} confirmed\n"), installed.stderr
    wrong = tiny_bundle(version=2, golden_error=1.0)
    publish(place, wrong, published="2020-01-01T00:00:00Z", expires="2100-01-01T00:00:00Z")
    pulled = run("pull", str(place))
    assert pulled.returncode == 1
    assert "model m0: golden outputs differ by 1 at most" in pulled.stderr
    assert slots.current() == first.digest


def test_the_agent_s_commands_on_a_board() -> None:
    assert {"pull": ".slots.pull", "slots": ".slots.command"}.items() <= entry.ON_A_BOARD.items()
