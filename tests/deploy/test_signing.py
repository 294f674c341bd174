from __future__ import annotations

import base64
import json
import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.agent.slots.dsse import read_envelope
from hwnas.deploy.errors import UntrustedError
from hwnas.deploy.signing import BUNDLE_TYPE, CHANNEL_TYPE, PublicKey, sign, verify
from tests.deploy.bundles import keyid, public_hex, signed
from tests.deploy.made_bundles import KEY, OTHER_KEY, TRUSTED

PAYLOAD = b'{"any":"thing"}'
ENVELOPE = sign(PAYLOAD, BUNDLE_TYPE, [KEY])


def test_ids_and_signatures_are_those_that_boards_know() -> None:
    assert PublicKey.of(KEY).keyid == keyid(KEY)
    theirs = json.loads(signed(PAYLOAD, [KEY]))
    assert json.loads(ENVELOPE) == theirs
    read = read_envelope(ENVELOPE, "it", BUNDLE_TYPE)
    assert read.signer({keyid(KEY): bytes.fromhex(public_hex(KEY))}) == keyid(KEY)


@given(payload=st.binary(max_size=200), seed=st.binary(min_size=32, max_size=32))
@settings(max_examples=30, deadline=None)
def test_whatever_is_signed_is_read_back_and_in_the_same_bytes(payload: bytes, seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    envelope = sign(payload, BUNDLE_TYPE, [OTHER_KEY, key])
    assert envelope == sign(payload, BUNDLE_TYPE, [OTHER_KEY, key])
    assert verify(envelope, BUNDLE_TYPE, [PublicKey.of(key)], "it") == payload


def test_no_bit_of_an_envelope_may_be_another() -> None:
    for position in range(len(ENVELOPE)):
        for bit in range(8):
            changed = bytearray(ENVELOPE)
            changed[position] ^= 1 << bit
            with pytest.raises(UntrustedError):
                verify(bytes(changed), BUNDLE_TYPE, TRUSTED, "it")


def test_an_envelope_is_only_what_it_was_signed_as() -> None:
    with pytest.raises(UntrustedError, match=re.escape(f"as '{BUNDLE_TYPE}', not as '{CHANNEL_TYPE}'")):
        verify(ENVELOPE, CHANNEL_TYPE, TRUSTED, "it")
    relabelled = json.loads(ENVELOPE) | {"payloadType": CHANNEL_TYPE}
    with pytest.raises(UntrustedError, match="was changed after it was signed"):
        verify(json.dumps(relabelled).encode(), CHANNEL_TYPE, TRUSTED, "it")


def test_strangers_and_impostors_are_told_apart() -> None:
    stranger = sign(PAYLOAD, BUNDLE_TYPE, [OTHER_KEY])
    with pytest.raises(UntrustedError, match=f"signed by {keyid(OTHER_KEY)[:16]}, of whom none is trusted"):
        verify(stranger, BUNDLE_TYPE, TRUSTED, "it")
    impostor = json.loads(stranger)
    impostor["signatures"][0]["keyid"] = keyid(KEY)
    with pytest.raises(UntrustedError, match="the signature does not fit"):
        verify(json.dumps(impostor).encode(), BUNDLE_TYPE, TRUSTED, "it")
    with pytest.raises(UntrustedError, match="signed by nobody"):
        verify(sign(PAYLOAD, BUNDLE_TYPE, []), BUNDLE_TYPE, TRUSTED, "it")
    with pytest.raises(UntrustedError, match="none is trusted"):
        verify(ENVELOPE, BUNDLE_TYPE, [], "it")


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({"payload": "", "payloadType": BUNDLE_TYPE, "signatures": {}}).encode(),
        json.dumps({"payload": 1, "payloadType": BUNDLE_TYPE, "signatures": []}).encode(),
        json.dumps(json.loads(ENVELOPE) | {"comment": "more"}).encode(),
        json.dumps(json.loads(ENVELOPE) | {"signatures": json.loads(ENVELOPE)["signatures"] * 2}).encode(),
        json.dumps(json.loads(ENVELOPE) | {"payload": base64.urlsafe_b64encode(b"\xff\xff").decode()}).encode(),
    ],
)
def test_what_is_no_envelope_is_refused_as_such(wrong: bytes) -> None:
    with pytest.raises(UntrustedError, match="it is not a signed envelope"):
        verify(wrong, BUNDLE_TYPE, TRUSTED, "it")
