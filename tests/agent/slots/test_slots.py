"""States of slots, and what leads from one to another."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots.slot_files import open_slot
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import keyid, make_key, public_hex, tiny_bundle
from tests.deploy.fakes import FakeBuilder, FakeHealth, QuickDisk, board, deliver, send

ONE, TWO, THREE, FOUR = (tiny_bundle(version=version, real=False) for version in (1, 2, 3, 4))


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return board(tmp_path / "root")


def refused(kind: str, act: object, *arguments: object) -> str:
    with pytest.raises(AgentError) as error:
        act(*arguments)  # type: ignore[operator]
    assert error.value.kind == kind, error.value.message
    return error.value.message


def states(slots: Slots) -> list[str]:
    return [event["event"] for event in slots.audit()]


def test_a_bundle_goes_through_all_states(slots: Slots) -> None:
    assert slots.status()["current"] is None
    outcome = deliver(slots, ONE)
    assert (outcome.digest, outcome.outcome) == (ONE.digest, "confirmed")
    assert states(slots)[1:] == ["received", "verified", "built", "checked", "switching", "activation", "confirmed"]
    status = slots.status()
    assert (status["current"], status["previous"]) == (ONE.digest, None)
    assert status["slots"][ONE.digest]["state"] == "confirmed"
    assert status["highest"]["cameras"]["version"] == 1
    assert str((slots.root / "current").readlink()) == f"slots/{ONE.digest}"
    assert (slots.root / "current" / "labels.json").read_bytes() == ONE.files["labels.json"]


def test_nobody_else_can_look_at_it(slots: Slots) -> None:
    deliver(slots, ONE)
    for path in (slots.root, *slots.root.rglob("*")):
        assert path.is_symlink() or not path.is_dir() or path.stat().st_mode & 0o077 == 0, path


def test_a_root_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o755)
    assert "must belong to you alone" in refused(ErrorKind.DISK, Slots(tmp_path / "root").boot_check)


def test_each_step_may_be_asked_for_again_and_none_out_of_turn(slots: Slots) -> None:
    send(slots, ONE.archive, ONE.sha256)
    digest = slots.verify(ONE.sha256)
    assert "it must be checked first" in refused(ErrorKind.BAD_REQUEST, slots.activate, digest)
    assert "it must be built first" in refused(ErrorKind.BAD_REQUEST, slots.check, digest, FakeHealth())
    refused(ErrorKind.BAD_REQUEST, slots.confirm, digest)
    for step in (
        lambda: slots.verify(ONE.sha256),
        lambda: slots.build(digest, FakeBuilder()),
        lambda: slots.check(digest, FakeHealth()),
        lambda: slots.activate(digest),
        lambda: slots.confirm(digest),
    ):
        step()
        count = len(slots.audit())
        step()
        assert slots.audit()[count:] == [] or slots.audit()[-1]["event"] == "checked"
    assert slots.slot(digest).state == "confirmed"


def test_the_second_time_changes_nothing(slots: Slots) -> None:
    builder = FakeBuilder()
    deliver(slots, ONE, builder)
    before = {path: path.stat().st_mtime_ns for path in slots.root.rglob("*") if path.name not in ("lock",)}
    assert deliver(slots, ONE, builder).outcome == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in slots.root.rglob("*") if path.name not in ("lock",)} == before
    assert builder.built == ["m0"]


def test_an_upload_goes_on_where_it_was_cut(slots: Slots) -> None:
    size, half = len(ONE.archive), len(ONE.archive) // 2
    assert slots.receive(ONE.sha256, size).bytes == 0
    slots.put(ONE.sha256, 0, size, ONE.archive[:half])
    again = Slots(slots.root, QuickDisk())
    received = again.receive(ONE.sha256, size)
    assert received == (half, hashlib.sha256(ONE.archive[:half]).hexdigest())
    assert again.put(ONE.sha256, half - 10, size, ONE.archive[half - 10 : half]) == half, "sent again"
    assert "does not fit" in refused(ErrorKind.BAD_REQUEST, again.put, ONE.sha256, half + 1, size, b"x")
    assert "does not fit" in refused(ErrorKind.BAD_REQUEST, again.put, ONE.sha256, half, size, bytes(size))
    assert again.put(ONE.sha256, half, size, ONE.archive[half:]) == size
    assert again.verify(ONE.sha256) == ONE.digest
    assert slots.receive(ONE.sha256, size) == (size, ONE.sha256), "it is a slot"
    assert slots.put(ONE.sha256, 0, size, b"anything") == size


def test_an_upload_whose_beginning_changed_is_thrown_away(slots: Slots) -> None:
    size = len(ONE.archive)
    slots.put(ONE.sha256, 0, size, bytes(10))
    assert "thrown away" in refused(ErrorKind.BAD_BUNDLE, slots.put, ONE.sha256, 10, size, ONE.archive[10:])
    assert slots.receive(ONE.sha256, size).bytes == 0


def test_another_upload_takes_its_place(slots: Slots) -> None:
    slots.put(ONE.sha256, 0, len(ONE.archive), bytes(10))
    slots.receive(TWO.sha256, len(TWO.archive))
    assert not list((slots.root / "incoming").iterdir())


@pytest.mark.parametrize("name", ["", "x" * 64, "../" + "a" * 61, "A" * 64])
def test_a_name_is_a_hash_and_never_a_path(slots: Slots, name: str) -> None:
    refused(ErrorKind.BAD_REQUEST, slots.receive, name, 1)
    refused(ErrorKind.BAD_REQUEST, slots.put, name, 0, 1, b"x")
    refused(ErrorKind.BAD_REQUEST, slots.verify, name)
    refused(ErrorKind.BAD_REQUEST, slots.activate, name)


def test_what_never_arrived_cannot_be_verified(slots: Slots) -> None:
    assert "has not arrived" in refused(ErrorKind.BAD_REQUEST, slots.verify, ONE.sha256)


def test_twice_the_archive_must_be_free(tmp_path: Path) -> None:
    class Full(QuickDisk):
        def free_bytes(self, path: Path) -> int:
            return 2 * len(ONE.archive) - 1

    slots = board(tmp_path / "root", Full())
    assert "are needed" in refused(ErrorKind.DISK, slots.receive, ONE.sha256, len(ONE.archive))
    slots.receive(ONE.sha256, len(ONE.archive) - 1)


def test_a_disk_that_is_too_small_for_what_is_in_the_archive(tmp_path: Path) -> None:
    class Full(QuickDisk):
        def free_bytes(self, path: Path) -> int:
            return 100_000

    large = tiny_bundle(version=1, real=False, extra={"zeros.bin": bytes(1 << 20)})
    slots = board(tmp_path / "root", Full())
    send(slots, large.archive, large.sha256)
    assert "free some space" in refused(ErrorKind.DISK, slots.verify, large.sha256)
    assert slots.receive(large.sha256, len(large.archive)).bytes == len(large.archive), "it need not be sent again"


def test_a_real_disk_that_runs_full(small_disk: Path) -> None:
    slots = Slots(small_disk / "root", QuickDisk())
    slots.trust(public_hex(make_key()), "")
    deliver(slots, ONE)
    (small_disk / "ballast").write_bytes(bytes(free_bytes(small_disk) - 12_288))
    with pytest.raises(AgentError, match="disk is full") as full:
        deliver(slots, TWO)
    assert full.value.kind == ErrorKind.DISK
    assert slots.current() == ONE.digest
    assert open_slot(slots.root).is_whole()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert deliver(slots, TWO).outcome == "confirmed"


def free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def test_an_update_and_the_way_back(slots: Slots) -> None:
    deliver(slots, ONE)
    deliver(slots, TWO)
    assert (slots.status()["current"], slots.status()["previous"]) == (TWO.digest, ONE.digest)
    assert str((slots.root / "previous").readlink()) == f"slots/{ONE.digest}"
    assert slots.roll_back("it is too loud") == ONE.digest
    assert slots.slot(TWO.digest).state == "rolled-back"
    assert slots.slot(TWO.digest).reason == "it is too loud"
    assert slots.slot(ONE.digest).state == "confirmed"
    assert not (slots.root / "previous").is_symlink()
    assert "no slot to go back to" in refused(ErrorKind.BAD_REQUEST, slots.roll_back, "again")
    assert deliver(slots, ONE).outcome == "unchanged", "the current one is current, whatever was higher"
    assert deliver(slots, TWO).outcome == "confirmed", "what was rolled back may be tried again"


def test_versions_only_rise_but_by_a_rollback(slots: Slots) -> None:
    deliver(slots, THREE)
    for older in (ONE, TWO):
        send(slots, older.archive, older.sha256)
        assert "version 3" in refused(ErrorKind.TOO_OLD, slots.verify, older.sha256)
    other = tiny_bundle(name="doors", version=1, real=False)
    assert deliver(slots, other).outcome == "confirmed", "each name has its own count"
    assert {name: one["version"] for name, one in slots.status()["highest"].items()} == {"cameras": 3, "doors": 1}
    assert slots.roll_back("back", to=THREE.digest) == THREE.digest


def test_the_highest_version_outlives_its_slot(slots: Slots) -> None:
    for bundle in (ONE, TWO, THREE):
        deliver(slots, bundle)
    slots.roll_back("bad")
    slots.collect()
    assert THREE.digest not in slots.status()["slots"]
    other = tiny_bundle(version=3, real=False, extra={"more": b""})
    send(slots, other.archive, other.sha256)
    assert "another bundle was version 3" in refused(ErrorKind.TOO_OLD, slots.verify, other.sha256)
    assert deliver(slots, THREE).outcome == "confirmed"


def test_an_older_one_that_waits_is_not_activated_after_a_newer_one(slots: Slots) -> None:
    send(slots, ONE.archive, ONE.sha256)
    slots.verify(ONE.sha256)
    slots.build(ONE.digest, FakeBuilder())
    slots.check(ONE.digest, FakeHealth())
    deliver(slots, TWO)
    refused(ErrorKind.TOO_OLD, slots.activate, ONE.digest)


def test_what_failed_its_check_never_becomes_current(slots: Slots) -> None:
    deliver(slots, ONE)
    outcome = deliver(slots, TWO, health=FakeHealth(complaint="it is wrong"))
    assert (outcome.outcome, outcome.reason) == ("unhealthy", "model m0: it is wrong")
    assert slots.current() == ONE.digest
    assert slots.slot(TWO.digest).state == "failed"
    assert "activation" not in states(slots)[-3:]
    refused(ErrorKind.BAD_REQUEST, slots.activate, TWO.digest)
    assert slots.status()["highest"]["cameras"]["version"] == 1
    twin = tiny_bundle(version=2, real=False, extra={"mended": b""})
    assert deliver(slots, twin).outcome == "confirmed", "a version that never was active may be mended"


def test_what_the_service_does_not_take_is_taken_back(slots: Slots) -> None:
    deliver(slots, ONE)
    outcome = deliver(slots, TWO, health=FakeHealth(refusal="it cannot be loaded"))
    assert (outcome.outcome, outcome.reason) == ("rolled-back", "it cannot be loaded")
    assert slots.current() == ONE.digest


def test_the_first_one_is_taken_back_to_nothing(slots: Slots) -> None:
    assert deliver(slots, ONE, health=FakeHealth(refusal="no")).outcome == "rolled-back"
    assert slots.current() is None
    assert not (slots.root / "current").is_symlink()
    assert deliver(slots, ONE).outcome == "confirmed"


def test_a_model_that_cannot_be_built(slots: Slots) -> None:
    class Refusing(FakeBuilder):
        def build(self, *arguments: object) -> dict[str, object]:
            raise AgentError(ErrorKind.MODEL_REFUSED, "it has an operator too many")

    deliver(slots, ONE)
    send(slots, TWO.archive, TWO.sha256)
    slots.verify(TWO.sha256)
    refused(ErrorKind.MODEL_REFUSED, slots.build, TWO.digest, Refusing())
    assert slots.slot(TWO.digest).state == "failed"
    assert "operator" in str(slots.slot(TWO.digest).reason)
    assert slots.current() == ONE.digest
    assert deliver(slots, TWO).outcome == "confirmed"


def activated(slots: Slots) -> None:
    send(slots, TWO.archive, TWO.sha256)
    slots.verify(TWO.sha256)
    slots.build(TWO.digest, FakeBuilder())
    slots.check(TWO.digest, FakeHealth())
    slots.activate(TWO.digest)


def test_a_boot_reverts_what_was_not_confirmed(slots: Slots) -> None:
    deliver(slots, ONE)
    assert slots.boot_check() is None
    activated(slots)
    assert slots.boot_check() == TWO.digest
    assert slots.current() == ONE.digest
    assert slots.boot_check() is None


def test_an_installation_goes_on_with_what_was_active_already(slots: Slots) -> None:
    deliver(slots, ONE)
    activated(slots)
    builder = FakeBuilder()
    assert deliver(slots, TWO, builder).outcome == "confirmed"
    assert builder.built == []


def test_a_third_one_over_an_unconfirmed_second_goes_back_to_the_first(slots: Slots) -> None:
    deliver(slots, ONE)
    activated(slots)
    assert deliver(slots, THREE, health=FakeHealth(refusal="no")).outcome == "rolled-back"
    assert slots.current() == ONE.digest
    assert slots.slot(TWO.digest).state == "checked"


def test_rolling_back_to_a_slot_that_was_never_confirmed_or_is_damaged(slots: Slots) -> None:
    deliver(slots, ONE)
    deliver(slots, TWO)
    refused(ErrorKind.BAD_REQUEST, slots.roll_back, "to", THREE.digest)
    engine = slots.root / "slots" / ONE.digest / "built" / "m0" / "engine"
    engine.write_bytes(b"something else")
    refused(ErrorKind.TAMPERED_ENGINE, slots.roll_back, "to")
    engine.unlink()
    refused(ErrorKind.TAMPERED_ENGINE, slots.roll_back, "to")
    assert slots.current() == TWO.digest


def test_what_a_revoked_key_has_signed_is_not_gone_back_to(slots: Slots) -> None:
    other = make_key(2)
    slots.trust(public_hex(other), "", confirmed=True)
    deliver(slots, ONE)
    deliver(slots, tiny_bundle(other, version=2, real=False))
    slots.revoke(keyid(make_key()), "lost")
    assert "was revoked (lost)" in refused(ErrorKind.UNTRUSTED, slots.roll_back, "to")
    refused(ErrorKind.UNTRUSTED, open_slot, slots.root, ONE.digest)


def test_a_damaged_current_slot_does_not_keep_the_next_one_out(slots: Slots) -> None:
    deliver(slots, ONE)
    (slots.root / "current" / "built" / "m0" / "engine").write_bytes(b"")
    assert deliver(slots, TWO).outcome == "confirmed"


def test_a_slot_that_changed_on_the_disk(slots: Slots) -> None:
    send(slots, ONE.archive, ONE.sha256)
    slots.verify(ONE.sha256)
    path = slots.root / "slots" / ONE.digest / "models" / "m0" / "model.onnx"
    path.write_bytes(b"something else")
    assert "changed on the disk" in refused(ErrorKind.BAD_BUNDLE, slots.build, ONE.digest, FakeBuilder())


def test_a_slot_with_the_envelope_of_another(slots: Slots) -> None:
    deliver(slots, ONE)
    deliver(slots, TWO)
    for name in ("current", f"slots/{ONE.digest}"):
        (slots.root / name / "manifest.dsse.json").write_bytes(THREE.envelope)
    assert "the manifest of another bundle" in refused(ErrorKind.BAD_BUNDLE, open_slot, slots.root)


@pytest.mark.parametrize("harm", ["changed", "missing", "envelope"])
def test_a_damaged_slot_is_mended_by_its_bundle(slots: Slots, harm: str) -> None:
    """Also the current one, which has all of its right files at every moment."""
    deliver(slots, ONE)
    deliver(slots, TWO, health=FakeHealth(complaint="not yet"))
    for bundle in (ONE, TWO):
        directory = slots.root / "slots" / bundle.digest
        if harm == "changed":
            (directory / "labels.json").write_bytes(b"")
        elif harm == "missing":
            shutil.rmtree(directory / "samples")
        else:
            (directory / "manifest.dsse.json").write_bytes(THREE.envelope)
        state = slots.slot(bundle.digest).state
        send(slots, bundle.archive, bundle.sha256)
        assert slots.verify(bundle.sha256) == bundle.digest
        assert open_slot(slots.root, bundle.digest).is_whole()
        assert slots.slot(bundle.digest).state == state


def test_the_same_bundle_in_another_archive_is_the_same_slot(slots: Slots) -> None:
    deliver(slots, ONE)
    repacked = tiny_bundle(make_key(), make_key(3), version=1, real=False)
    assert (repacked.digest == ONE.digest, repacked.sha256 == ONE.sha256) == (True, False)
    assert deliver(slots, repacked).outcome == "unchanged"


def test_collecting_keeps_the_current_one_the_previous_one_and_as_many_more_as_asked(slots: Slots) -> None:
    for bundle in (ONE, TWO, THREE):
        deliver(slots, bundle)
    deliver(slots, FOUR, health=FakeHealth(complaint="bad"))
    assert slots.collect(keep=3) == [FOUR.digest]
    assert slots.collect() == [ONE.digest]
    assert slots.collect() == []
    assert {path.name for path in (slots.root / "slots").iterdir()} == {TWO.digest, THREE.digest}
    assert "keep 2 or more" in refused(ErrorKind.BAD_REQUEST, slots.collect, 1)


def test_one_at_a_time(slots: Slots, tmp_path: Path) -> None:
    other = Slots(slots.root, QuickDisk())
    with slots.held():
        slots.boot_check()
        for act in (other.boot_check, other.collect, lambda: deliver(other, ONE), lambda: other.roll_back("")):
            assert "another process is at work" in refused(ErrorKind.BUSY, act)
        other.status()
    other.boot_check()


def test_a_torn_line_of_the_audit_is_cut_off(slots: Slots) -> None:
    deliver(slots, ONE)
    events = slots.audit()
    with (slots.root / "audit.jsonl").open("ab") as log:
        log.write(b'{"event": "to')
    assert slots.audit() == events
    deliver(slots, TWO)
    assert slots.audit()[: len(events)] == events
    assert [event["number"] for event in slots.audit()] == list(range(1, len(slots.audit()) + 1))


def test_a_long_audit_is_not_read_whole(slots: Slots) -> None:
    """Nor is a line that is longer than what is read at once taken for a torn one."""
    slots.revoke("0" * 64, "r" * 200_000)
    slots.revoke("1" * 64, "r")
    with (slots.root / "audit.jsonl").open("ab") as log:
        log.write(b"x" * 200_000)
    slots.revoke("2" * 64, "r")
    assert [event["number"] for event in slots.audit()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "slots": {}, "switch": null, "history": [], "odd": 1}'],
)
def test_a_damaged_state_is_named(slots: Slots, content: bytes) -> None:
    deliver(slots, ONE)
    (slots.root / "state.json").write_bytes(content)
    assert "state.json is damaged" in refused(ErrorKind.DISK, slots.status)
    assert open_slot(slots.root).is_whole(), "the service needs current and the keys alone"


def test_a_status_of_nothing(tmp_path: Path) -> None:
    status = Slots(tmp_path / "no" / "root").status()
    assert status["current"] is None
    assert status["service"] is None
    assert status["disk_free_bytes"] > 0
    assert not (tmp_path / "no").exists()
