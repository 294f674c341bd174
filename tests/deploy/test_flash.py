"""Flashing boards that are really there: this machine's agent, and one behind a real SSH server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.protocol import ErrorKind
from hwnas.deploy.board import BoardSlots
from hwnas.deploy.flash import Parcel, flash, look, parcel, roll_back
from hwnas.deploy.outcome import Outcome
from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device, load_target
from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.errors import RefusedError
from hwnas.devices.local import LocalConnection
from hwnas.devices.ssh import SshConnection
from hwnas.errors import UserError
from hwnas.progress import Silent
from tests.deploy.bundles import TinyBundle, make_key, public_hex, tiny_bundle
from tests.sshd import serving

TRUSTED = [PublicKey(public_hex(make_key(seed))) for seed in range(2)]


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[BoardSlots]:
    """This machine as a board that trusts ``make_key()``."""
    with Device(load_target("host-cpu"), LocalConnection()) as device:
        board = BoardSlots(device, str(tmp_path / "board"))
        board.trust(TRUSTED[0], "the usual key")
        yield board


@pytest.fixture
def send(tmp_path: Path, slots: BoardSlots) -> Callable[..., Outcome]:
    """Flashes a tiny bundle, verified as the command does."""

    def sent(bundle: TinyBundle, **options: Any) -> Outcome:
        with as_parcel(bundle, tmp_path) as one:
            return flash("here", one, slots, Silent(), **options)

    return sent


def as_parcel(bundle: TinyBundle, directory: Path) -> Any:
    return parcel(bundle.write(directory), TRUSTED)


def content(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a directory, but the lock."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mtime_ns, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_a_fit_bundle_serves_and_flashing_it_again_changes_nothing(
    send: Callable[..., Outcome], slots: BoardSlots, tmp_path: Path
) -> None:
    first, second = tiny_bundle(version=1), tiny_bundle(version=2)
    assert send(first).fate == "updated"
    outcome = send(second)
    assert (outcome.fate, outcome.digest) == ("updated", second.digest)
    assert outcome.health is not None and {one["name"] for one in outcome.health["checks"]} == {
        "golden",
        "accuracy",
        "latency",
        "memory",
        "throttling",
    }
    before = content(tmp_path / "board")
    assert send(second).fate == "unchanged"
    assert content(tmp_path / "board") == before
    assert roll_back("here", slots, "a test").digest == first.digest
    assert slots.status().state_of(second.digest) == "rolled-back"


FLAWS: dict[str, dict[str, Any]] = {
    "golden outputs differ": {"golden_error": 1.0},
    "samples are told right": {"wrong_labels": True},
    "the budget 1e-06 ms": {"budget": {"latency_ms": 1e-6}},
    "MiB are its budget": {"budget": {"memory_mib": 1e-3}, "layers": 4},
}


def test_an_unfit_bundle_never_serves(send: Callable[..., Outcome], slots: BoardSlots) -> None:
    fit = tiny_bundle(version=1)
    send(fit)
    for why, flaws in FLAWS.items():
        outcome = send(tiny_bundle(version=2, **flaws))
        assert outcome.fate == "rolled-back" and why in (outcome.why or "")
        assert outcome.digest == slots.status().current == fit.digest


def test_what_a_board_may_not_have_is_refused_before_it_is_sent(
    send: Callable[..., Outcome], slots: BoardSlots, tmp_path: Path
) -> None:
    current = tiny_bundle(version=2)
    send(current)
    before = content(tmp_path / "board")
    older, strange = tiny_bundle(version=1), tiny_bundle(make_key(1), version=3)
    assert "the board has had version 2" in (send(older).why or "")
    outcome = send(strange)
    assert outcome.fate == "refused" and "does not trust its key" in (outcome.why or "")
    assert content(tmp_path / "board") == before
    other = {"target": "orin", "table": "t.json", "table_sha256": "0" * 64, "identity": "01234567"}
    elsewhere = tiny_bundle(version=3).with_manifest(checked=other)
    assert "checked on orin with identity 01234567" in (send(elsewhere).why or "")
    assert send(elsewhere, allow_stale=True).fate == "updated"


def test_a_version_names_one_bundle_and_that_one_may_come_again(
    send: Callable[..., Outcome], slots: BoardSlots, tmp_path: Path
) -> None:
    first, second = tiny_bundle(version=1), tiny_bundle(version=2)
    for bundle in (first, second):
        send(bundle)
    slots.roll_back("a test")
    with as_parcel(tiny_bundle(version=2, golden_error=1e-6), tmp_path) as sent:
        (said,) = [check for check in look(sent, slots) if check.name == "version"]
    assert not said.ok and "version 2 of 'cameras', another bundle" in said.says
    slots.collect(2)
    assert send(second).fate == "updated"


def test_a_board_whose_slot_nobody_confirmed_goes_back_to_the_one_before(
    send: Callable[..., Outcome], slots: BoardSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host was killed after a switch; the next bundle is switched to as well, and not confirmed either."""

    def refuse(self: BoardSlots, digest: str) -> None:
        raise RefusedError(ErrorKind.UNHEALTHY, "no service takes it")

    first = tiny_bundle(version=1)
    send(first)
    monkeypatch.setattr(BoardSlots, "confirm", refuse)
    monkeypatch.setattr(BoardSlots, "roll_back", lambda self, why: None)
    send(tiny_bundle(version=2))
    monkeypatch.undo()
    monkeypatch.setattr(BoardSlots, "confirm", refuse)
    outcome = send(tiny_bundle(version=3))
    assert (outcome.fate, outcome.digest) == ("rolled-back", first.digest)


def test_a_look_changes_nothing(slots: BoardSlots, tmp_path: Path) -> None:
    before = content(tmp_path / "board")
    with as_parcel(tiny_bundle(), tmp_path) as sent:
        checks = look(sent, slots)
    assert [check.name for check in checks if check.ok] == ["signature", "version", "fingerprint", "disk", "memory"]
    assert content(tmp_path / "board") == before


def test_slots_are_found_by_the_beginning_of_their_digest_and_collected(
    send: Callable[..., Outcome], slots: BoardSlots
) -> None:
    bundles = [tiny_bundle(version=version) for version in (1, 2, 3)]
    for bundle in bundles:
        send(bundle)
    with pytest.raises(UserError, match="no slot begins with zz"):
        slots.find("zz")
    with pytest.raises(UserError, match="several slots begin with"):
        slots.find("")
    assert slots.roll_back("a test", bundles[0].digest[:10]) == bundles[0].digest
    assert slots.collect(2) == [bundles[2].digest]


class KilledAgent(AgentProcess):
    """Is killed with the n-th request that its connection hears, before it is answered or just after."""

    def __init__(self, agent: AgentProcess, doom: Doom) -> None:
        self._agent, self._doom = agent, doom

    @property
    def alive(self) -> bool:
        return self._agent.alive

    def exchange(self, line: bytes, timeout_s: float) -> bytes:
        self._doom.left -= 1
        if self._doom.left == 0 and not self._doom.answered:
            self._agent.kill()
        reply = self._agent.exchange(line, timeout_s)
        if self._doom.left == 0:
            self._agent.kill()
            reply = self._agent.exchange(line, timeout_s)
        return reply

    def last_words(self) -> str:
        return self._agent.last_words()

    def kill(self) -> None:
        self._agent.kill()

    def stop(self) -> None:
        self._agent.stop()


class Doom(Connection):
    """A local connection whose agent is killed once."""

    def __init__(self, request: int, answered: bool) -> None:
        self.left, self.answered = request, answered
        self._connection = LocalConnection()

    def start_agent(self) -> AgentProcess:
        return KilledAgent(self._connection.start_agent(), self)

    def close(self) -> None:
        self._connection.close()


@pytest.mark.parametrize(("request_number", "answered"), [(6, False), (8, True), (10, True)])
def test_an_agent_that_is_killed_in_between_costs_nothing(
    request_number: int, answered: bool, tmp_path: Path, slots: BoardSlots
) -> None:
    """The requests: greeting, status, fingerprint, status, receive, put, verify, build, check, activate, confirm."""
    doom = Doom(request_number, answered)
    bundle = tiny_bundle()
    with Device(load_target("host-cpu"), doom) as device, as_parcel(bundle, tmp_path) as sent:
        outcome = flash("here", sent, BoardSlots(device, slots.root), Silent())
    assert doom.left < 0
    assert outcome.fate == "updated"
    assert slots.status().state_of(bundle.digest) == "confirmed"


STEPS = ["sending", "verifying there", "checking there", "switching", "confirmed"]


@pytest.mark.parametrize("step", ["building there", *(pytest.param(step, marks=pytest.mark.slow) for step in STEPS)])
def test_a_board_over_ssh_is_flashed_though_its_server_is_killed(step: str, tmp_path: Path) -> None:
    """In mid-way the server and every connection die; a bit later it is there again."""

    class Killing(Silent):
        notes: list[str] = []  # noqa: RUF012

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            if note == step and not self.notes.count(step):
                server.stop()
                server.start()
            self.notes.append(note)

    bundle, home = tiny_bundle(), tmp_path / "home"
    home.mkdir()
    with serving(home) as server:
        target = load_target("host-cpu").model_copy(update={"connection": server.settings()})
        connection = SshConnection(server.settings(), returns_within_s=30.0)
        with Device(target, connection) as device, as_parcel(bundle, tmp_path) as sent:
            board = BoardSlots(device, str(tmp_path / "board"))
            board.trust(TRUSTED[0], "the usual key")
            outcome = flash("there", sent, board, Killing())
            assert (outcome.fate, outcome.why) == ("updated", None)
            assert board.status().current == bundle.digest
    assert step in Killing.notes


def test_a_board_that_is_gone_is_said_to_be_unreachable(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with serving(home) as server:
        settings = server.settings()
    target = load_target("host-cpu").model_copy(update={"connection": settings})
    with Device(target, SshConnection(settings)) as device, as_parcel(tiny_bundle(), tmp_path) as sent:
        outcome = flash("there", sent, BoardSlots(device), Silent())
    assert outcome.fate == "unreachable" and "cannot be reached" in (outcome.why or "")


def test_a_directory_is_sent_as_the_archive_that_it_makes(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    directory = tmp_path / "cameras-v1"
    for name, data in bundle.members:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with parcel(directory, TRUSTED) as sent:
        assert isinstance(sent, Parcel) and sent.archive.is_file()
        assert sent.bundle.digest == bundle.digest
    assert not sent.archive.exists()
