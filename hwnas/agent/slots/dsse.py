"""Signed envelopes: DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md), with Ed25519 signatures.

Nothing of an envelope's payload is looked at before a trusted key has been found to have signed it.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from ..protocol import AgentError, ErrorKind, Fields
from .ed25519 import verify

BUNDLE_TYPE = "application/vnd.hwnas.bundle+json"
CHANNEL_TYPE = "application/vnd.hwnas.channel+json"


@dataclass(frozen=True)
class Envelope:
    """A payload, what it is said to be, and who is said to have signed it."""

    payload: bytes
    payload_type: str
    signatures: Tuple[Tuple[str, bytes], ...]
    """Pairs of a key's id, which is only a hint, and a signature."""

    def signer(self, keys: Mapping[str, bytes]) -> Optional[str]:
        """The id of the first of ``keys`` (raw public bytes by id) whose signature is right, ``None`` if none is."""
        message = pre_authentication_encoding(self.payload_type, self.payload)
        for keyid, signature in self.signatures:
            if keyid in keys and verify(keys[keyid], message, signature):
                return keyid
        return None


def read_envelope(content: bytes, what: str, payload_type: str) -> Envelope:
    """The envelope of ``content``, a file called ``what`` in the error.

    Raises:
        AgentError: ``bad-bundle``, when it is not an envelope of that payload type.
    """
    try:
        fields = Fields(json.loads(content.decode("ascii")))
        found = fields.text("payloadType")
        signatures = tuple(_signature(item) for item in fields.items("signatures"))
        envelope = Envelope(_bytes_of(fields.text("payload")), found, signatures)
    except (ValueError, AttributeError, RecursionError, AgentError) as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "%s is not a DSSE envelope (%s)" % (what, error)) from error
    if found != payload_type:
        raise AgentError(
            ErrorKind.BAD_BUNDLE, "%s is an envelope of type %r, not %s" % (what, found[:60], payload_type)
        )
    return envelope


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length before it."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signature(item: object) -> Tuple[str, bytes]:
    if not isinstance(item, dict):
        raise AgentError(ErrorKind.BAD_BUNDLE, "a signature must be an object")
    fields = Fields(item)
    return fields.text("keyid"), _bytes_of(fields.text("sig"))


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "not base64: %s" % error) from error
