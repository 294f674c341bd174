"""Signatures over manifests: DSSE envelopes (https://github.com/secure-systems-lab/dsse) with ed25519 (RFC 8032)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from hwnas.deploy.canonical import canonical
from hwnas.deploy.errors import UntrustedError

BUNDLE_TYPE = "application/vnd.hwnas.bundle+json"
CHANNEL_TYPE = "application/vnd.hwnas.channel+json"
_ED25519 = "ed25519"


@dataclass(frozen=True)
class PublicKey:
    """A public key: 32 bytes as 64 hexadecimal digits."""

    public: str

    @property
    def keyid(self) -> str:
        """SHA-256 of its bytes, by which signatures name it."""
        return hashlib.sha256(bytes.fromhex(self.public)).hexdigest()

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> PublicKey:
        """The public half of a pair."""
        return cls(private.public_key().public_bytes_raw().hex())


def sign(payload: bytes, payload_type: str, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """The envelope of a payload, signed by each of ``keys``; the same arguments give the same bytes."""
    envelope = Envelope(payload, payload_type, {})
    for private in keys:
        envelope.sign(CryptoSigner(private, _verifier(PublicKey.of(private))))
    return canonical(envelope.to_dict())


def verify(envelope: bytes, payload_type: str, trusted: Sequence[PublicKey], what: str) -> bytes:
    """The payload of an envelope that one of the ``trusted`` keys has signed.

    Args:
        envelope: its bytes; they may hold nothing that is left unchecked.
        payload_type: what it must have been signed as.
        what: names it in errors.

    Raises:
        UntrustedError: it is no such envelope, of another type, or has no good signature by a trusted key.
    """
    read = _parsed(envelope, what)
    if read.payload_type != payload_type:
        raise UntrustedError(f"{what} was signed as '{read.payload_type}', not as '{payload_type}'.")
    known = {key.keyid for key in trusted}
    if not known & read.signatures.keys():
        signers = ", ".join(keyid[:16] for keyid in read.signatures) or "nobody"
        raise UntrustedError(f"{what} is signed by {signers}, of whom none is trusted; see `hwnas keys list`.")
    try:
        read.verify([_verifier(key) for key in trusted], threshold=1)
    except VerificationError as error:
        raise UntrustedError(
            f"{what} was changed after it was signed: the signature does not fit; fetch or make it again."
        ) from error
    return read.payload


def signers(envelope: bytes, what: str) -> tuple[str, ...]:
    """The ids of the keys that claim to have signed an envelope; whether they have is not checked.

    Raises:
        UntrustedError: it is no envelope.
    """
    return tuple(_parsed(envelope, what).signatures)


def _verifier(key: PublicKey) -> SSlibKey:
    return SSlibKey(key.keyid, _ED25519, _ED25519, {"public": key.public})


def _parsed(envelope: bytes, what: str) -> Envelope:
    try:
        read = Envelope.from_dict(json.loads(envelope))
        if read.to_dict() == json.loads(envelope):
            return read
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise UntrustedError(f"{what} is not a signed envelope as `hwnas` writes them; fetch or make it again.")
