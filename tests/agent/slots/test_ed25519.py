"""The verifier against published vectors, and against a library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.agent.slots.ed25519 import is_public_key, verify
from tests.deploy.bundles import make_key, public_hex

# RFC 8032, section 7.1: name, public key, message, signature.
RFC_8032 = [
    (
        "TEST 1",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24"
        "655141438e7a100b",
    ),
    (
        "TEST 2",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aee"
        "b00d291612bb0c00",
    ),
    (
        "TEST 3",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28d"
        "c027beceea1ec40a",
    ),
    (
        "TEST SHA(abc)",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e"
        "2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17a"
        "d9bef1177331a704",
    ),
]
WYCHEPROOF = json.loads((Path(__file__).parent / "wycheproof_ed25519.json").read_text())["cases"]
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(
    ("public", "message", "signature"), [case[1:] for case in RFC_8032], ids=[c[0] for c in RFC_8032]
)
def test_the_vectors_of_rfc_8032(public: str, message: str, signature: str) -> None:
    raw = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify(*raw)
    assert not verify(raw[0], raw[1] + b"\0", raw[2])


@pytest.mark.parametrize("case", WYCHEPROOF, ids=lambda case: f"{case[0]}-{case[1]}")
def test_the_vectors_of_wycheproof(case: list[Any]) -> None:
    _, flag, public, message, signature, result = case
    found = verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))
    # Wycheproof leaves keys of small and of mixed order to the verifier; one of small order fits many messages.
    expected = result == "valid" or (result == "acceptable" and flag != "SmallOrderPublicKey")
    assert found == expected


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200))
@settings(max_examples=40, deadline=None)
def test_it_takes_what_a_library_signs(seed: bytes, message: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert verify(bytes.fromhex(public_hex(key)), message, key.sign(message))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_it_refuses_what_a_library_refuses(data: st.DataObject) -> None:
    key, message = make_key(), b"a message"
    parts = [bytes.fromhex(public_hex(key)), message, key.sign(message)]
    which = data.draw(st.integers(0, 2))
    changed = bytearray(parts[which])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    parts[which] = bytes(changed)
    try:
        Ed25519PublicKey.from_public_bytes(parts[0]).verify(parts[2], parts[1])
    except InvalidSignature:
        assert not verify(*parts)
    else:
        pytest.fail("a changed byte went unnoticed by the library")


def test_a_signature_has_one_encoding() -> None:
    key, message = make_key(), b"a message"
    public, signature = bytes.fromhex(public_hex(key)), key.sign(message)
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not verify(public, message, malleable)
    for length in (0, 63, 65):
        assert not verify(public, message, (signature + b"\0")[:length])


@pytest.mark.parametrize(
    "public",
    [
        (1).to_bytes(32, "little"),  # the neutral element
        (2**255 - 20).to_bytes(32, "little"),  # of order 2
        bytes(32),  # of order 4
        (2**255 - 18).to_bytes(32, "little"),  # y = 1 by another number
        (2).to_bytes(32, "little"),  # not on the curve
        (1 | 1 << 255).to_bytes(32, "little"),  # x = 0 with a sign
        b"",
        bytes(33),
    ],
)
def test_what_is_no_key(public: bytes) -> None:
    assert not is_public_key(public)
    assert not verify(public, b"", bytes(64))
    assert not verify(public, b"", (1).to_bytes(32, "little") + bytes(32))


def test_a_key_is_one() -> None:
    assert is_public_key(bytes.fromhex(public_hex(make_key())))
