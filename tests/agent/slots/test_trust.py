"""Keys of a board."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import keyid, make_key, public_hex
from tests.deploy.fakes import QuickDisk


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "root", QuickDisk())


def test_the_first_key_is_taken_and_another_only_if_confirmed(slots: Slots) -> None:
    first, second = make_key(1), make_key(2)
    assert slots.trust(public_hex(first), "mine") == keyid(first)
    assert slots.trust(public_hex(first), "again") == keyid(first), "no error, and no second key"
    with pytest.raises(AgentError, match=r"trusts key .* already; confirm"):
        slots.trust(public_hex(second), "theirs")
    slots.trust(public_hex(second), "theirs", confirmed=True)
    trusted = {key["keyid"]: key["comment"] for key in slots.status()["trusted"]}
    assert trusted == {keyid(first): "mine", keyid(second): "theirs"}


def test_a_revoked_key_is_never_trusted_again(slots: Slots) -> None:
    key = make_key()
    slots.trust(public_hex(key), "mine")
    slots.revoke(keyid(key), "lost")
    slots.revoke(keyid(key), "lost twice")
    with pytest.raises(AgentError, match=r"was revoked \(lost\)") as refused:
        slots.trust(public_hex(key), "mine", confirmed=True)
    assert refused.value.kind == ErrorKind.UNTRUSTED
    with pytest.raises(AgentError, match="trusts no key already; confirm"):
        slots.trust(public_hex(make_key(2)), "whoever comes next is not the first")
    assert slots.status()["trusted"] == []
    assert slots.status()["revoked"][0]["reason"] == "lost"
    assert [event["event"] for event in slots.audit()] == ["trusted", "revoked"]


def test_a_key_may_be_revoked_before_it_is_known(slots: Slots) -> None:
    slots.revoke(keyid(make_key()), "found on the street")
    with pytest.raises(AgentError, match="was revoked"):
        slots.trust(public_hex(make_key()), "mine", confirmed=True)


@pytest.mark.parametrize("public", ["", "zz", "00" * 32, "01" + "00" * 31, "ff" * 32, "ab" * 31, "ä" * 64])
def test_what_is_no_key_is_not_trusted(slots: Slots, public: str) -> None:
    with pytest.raises(AgentError, match="no Ed25519 public key"):
        slots.trust(public, "")


def test_a_key_s_id_is_a_hash(slots: Slots) -> None:
    with pytest.raises(AgentError, match="64 hexadecimal digits"):
        slots.revoke("me", "")


@pytest.mark.parametrize("harm", ["{", "[]", '{"schema":1}', '{"schema":2,"keys":{},"revoked":{}}', "swapped"])
def test_a_damaged_list_of_keys_trusts_nobody(slots: Slots, harm: str) -> None:
    slots.trust(public_hex(make_key()), "mine")
    path = slots.root / "trusted_keys.json"
    path.write_text(
        path.read_text().replace(public_hex(make_key()), public_hex(make_key(2))) if harm == "swapped" else harm
    )
    with pytest.raises(AgentError, match="is damaged") as refused:
        slots.trusted()
    assert refused.value.kind == ErrorKind.DISK
