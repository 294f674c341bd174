from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hwnas.deploy.board import BoardSlots
from hwnas.deploy.keys import KeyStore
from hwnas.deploy.signing import BUNDLE_TYPE, PublicKey, sign, verify
from hwnas.devices import Device, load_target, open_device
from hwnas.devices.errors import RefusedError
from hwnas.errors import BadFileError, UnknownNameError, UserError
from hwnas.questions import answered_by
from tests.deploy.commands import hwnas, told
from tests.sshd import Sshd


class Typing:
    """Types the same passphrases each time, and remembers what it was asked."""

    def __init__(self, *answers: str | None) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def trusts(self, host: str, fingerprint: str) -> bool:
        return False

    def secret(self, what: str) -> str | None:
        self.asked.append(what)
        return self.answers.pop(0)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def test_a_private_half_is_nobody_elses_from_the_first_byte_on(store: KeyStore) -> None:
    before = os.umask(0)
    try:
        key = store.new("ops", "the ops desk")
    finally:
        os.umask(before)
    assert key.private is not None
    assert key.private.stat().st_mode & 0o777 == 0o600
    assert store.directory.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in sorted(store.directory.iterdir())] == ["ops.json", "ops.pem"]
    assert key.keyid == PublicKey.of(key.unlocked()).keyid
    assert key.record.public not in key.private.read_text()


def test_openssl_reads_the_key(store: KeyStore) -> None:
    key = store.new("ops")
    shown = subprocess.run(
        ["openssl", "pkey", "-in", str(key.private), "-noout", "-text"], capture_output=True, text=True, check=True
    )
    assert "ED25519" in shown.stdout
    assert key.record.public in "".join(shown.stdout.split()).replace(":", "")


def test_a_passphrase_is_needed_and_written_nowhere(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    key = store.new("ops", passphrase="correct horse")
    assert key.encrypted
    assert all(b"correct horse" not in path.read_bytes() for path in store.directory.iterdir())
    with answered_by(Typing("correct horse")):
        envelope = sign(b"x", BUNDLE_TYPE, [key.unlocked()])
    assert verify(envelope, BUNDLE_TYPE, store.trusted(), "it") == b"x"
    with answered_by(Typing("wrong")), pytest.raises(UserError, match="the passphrase is wrong or the file damaged"):
        key.unlocked()
    with answered_by(Typing(None)), pytest.raises(UserError, match="no terminal to ask for it"):
        key.unlocked()
    assert "correct horse" not in caplog.text
    with pytest.raises(UserError, match="An empty passphrase protects nothing"):
        store.new("other", passphrase="")


def test_a_key_that_others_can_read_or_that_is_another_is_not_used(store: KeyStore) -> None:
    key, other = store.new("ops"), store.new("other")
    assert key.private is not None and other.private is not None
    key.private.chmod(0o640)
    with pytest.raises(BadFileError, match="can be read by others; run `chmod 600"):
        key.unlocked()
    key.private.chmod(0o600)
    key.private.write_bytes(other.private.read_bytes())
    with pytest.raises(BadFileError, match=r"is not the one of ops.json"):
        key.unlocked()
    key.private.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    with pytest.raises(UserError, match="the file is damaged"):
        key.unlocked()


def test_names_are_found_or_suggested(store: KeyStore) -> None:
    with pytest.raises(UserError, match="There is no key to sign with; `hwnas keys new NAME` makes one"):
        store.unlocked()
    with pytest.raises(UnknownNameError, match="none yet"):
        store["ops"]
    store.new("ops")
    assert len(store.unlocked()) == 1
    store.new("lab")
    with pytest.raises(UserError, match="There are several keys; name one with --key: lab, ops"):
        store.unlocked()
    assert [PublicKey.of(key) for key in store.unlocked(["ops"])] == store.trusted(["ops"])
    with pytest.raises(UnknownNameError, match="there are: lab, ops"):
        store["../ops"]
    with pytest.raises(UserError, match="There is a key 'ops'"):
        store.new("ops")
    for name in ("", "../up", "Ops", "a b", "a.b"):
        with pytest.raises(UserError, match="cannot name a key"):
            store.new(name)


def test_a_private_half_left_by_a_kill_is_replaced(store: KeyStore) -> None:
    store.directory.mkdir(mode=0o700)
    (store.directory / "ops.pem").write_bytes(b"half a key")
    assert PublicKey.of(store.new("ops").unlocked()) == store["ops"].record.key


def test_somebody_elses_key_verifies_and_does_not_sign(store: KeyStore, tmp_path: Path) -> None:
    theirs = KeyStore(tmp_path / "theirs")
    envelope = sign(b"x", BUNDLE_TYPE, [theirs.new("ci").unlocked()])
    store.new("ops")
    (store.directory / "ci.json").write_bytes((theirs.directory / "ci.json").read_bytes())
    assert verify(envelope, BUNDLE_TYPE, store.trusted(), "it") == b"x"
    with pytest.raises(UserError, match="only the public half is here"):
        store["ci"].unlocked()
    assert [PublicKey.of(key) for key in store.unlocked()] == [store["ops"].record.key]


def test_a_revoked_key_neither_signs_nor_verifies(store: KeyStore) -> None:
    key = store.new("ops")
    first = store.revoke("ops", "lost").record
    assert store.revoke("ops", "again").record == first
    with pytest.raises(UserError, match=r"was revoked on .* \(lost\); use another"):
        store["ops"].unlocked()
    assert store.trusted() == []
    with pytest.raises(UserError, match="was revoked"):
        store.trusted([key.name])


def test_a_damaged_record_is_refused_with_the_field(store: KeyStore) -> None:
    store.new("ops")
    record = store.directory / "ops.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"public": "xyz"}))
    with pytest.raises(BadFileError, match=r"key record .*ops.json: field 'public'"):
        list(store)


# --- boards ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def board() -> Iterator[Device]:
    """This machine's agent."""
    with open_device(load_target("host-cpu")) as device:
        yield device


def root_of(tmp_path: Path) -> str:
    root = tmp_path / "slots"
    root.mkdir(mode=0o700)
    return str(root)


def test_a_board_takes_keys_and_gives_them_up_for_good(board: Device, store: KeyStore, tmp_path: Path) -> None:
    slots, first, second = BoardSlots(board, root_of(tmp_path)), store.new("first"), store.new("second")
    assert slots.status().trusted == []
    for key in (first, second, second):
        slots.trust(key.record.key, key.name)
    assert {key.keyid for key in slots.status().trusted} == {first.keyid, second.keyid}
    slots.revoke(first.record.key, "lost")
    assert [(key.keyid, key.comment) for key in slots.status().trusted] == [(second.keyid, "second")]
    assert [(key.keyid, key.reason) for key in slots.status().revoked] == [(first.keyid, "lost")]
    with pytest.raises(RefusedError, match="revoked"):
        slots.trust(first.record.key, "first")


def test_the_commands_make_list_trust_and_revoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    board = ["--target", "host-cpu", "--root", root_of(tmp_path)]
    made = told("keys", "new", "ops", "--comment", "the ops desk")
    assert made["private"] == str(tmp_path / "keys" / "ops.pem")
    assert "PRIVATE" not in json.dumps(made)
    assert "Name the boards that shall trust the key" in hwnas("keys", "trust", "ops", status=2)
    assert "trusts ops only if somebody confirms it" in hwnas("keys", "trust", "ops", *board, status=2)
    assert told("keys", "list", *board)["trusted"] == []
    hwnas("keys", "trust", "ops", "--yes", *board)
    assert told("keys", "list", *board)["trusted"] == [made["keyid"]]
    hwnas("keys", "revoke", "ops", "--reason", "lost", *board)
    assert told("keys", "list", *board)["trusted"] == []
    (listed,) = told("keys", "list")
    assert (listed["keyid"], listed["revoked"]["reason"]) == (made["keyid"], "lost")
    assert "was revoked on" in hwnas("keys", "trust", "ops", "--yes", *board, status=2)
    assert "there is none" in hwnas("keys", "new", "lab", "--passphrase", status=2)


def test_no_board_is_given_a_key_over_a_way_that_nobody_vouches_for(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    key, target = told("keys", "new", "ops"), tmp_path / "camera.yaml"
    described = {"schema": 1, "name": "camera", "extends": "host-cpu", "description": "a camera", "kind": "cpu"}
    target.write_text(yaml.safe_dump(described | {"connection": sshd.settings().model_dump(exclude_none=True)}))
    board = ["--target", target, "--root", root_of(tmp_path)]
    (sshd.home / "known_hosts").write_text("")
    try:
        assert "was never seen before" in hwnas("keys", "trust", "ops", "--yes", *board, status=1)
    finally:
        sshd.remember_host()
    assert told("keys", "list", *board)["trusted"] == []
    hwnas("keys", "trust", "ops", "--yes", *board)
    assert told("keys", "list", *board)["trusted"] == [key["keyid"]]
