"""Signed envelopes: DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md), with Ed25519 signatures.

Nothing of an envelope's payload is looked at before a trusted key has been found to have signed it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from ..protocol import AgentError, ErrorKind
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
        record = json.loads(content.decode("ascii"))
        signatures = tuple((item["keyid"], _bytes_of(item.pop("sig"))) for item in record["signatures"])
        envelope = Envelope(_bytes_of(record.pop("payload")), record.pop("payloadType"), signatures)
        # Whatever else an envelope carried, nobody would have signed.
        nothing_else = record == {"signatures": [{"keyid": keyid} for keyid, _ in signatures]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "%s is not a DSSE envelope (%r)" % (what, error)) from error
    if not nothing_else or not all(isinstance(keyid, str) for keyid, _ in signatures):
        raise AgentError(ErrorKind.BAD_BUNDLE, "%s carries something that nobody signed" % what)
    if envelope.payload_type != payload_type:
        raise AgentError(ErrorKind.BAD_BUNDLE, "%s is of type %r, not %s" % (what, envelope.payload_type, payload_type))
    return envelope


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload, each with its length before it."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _bytes_of(text: str) -> bytes:
    """What base64 stands for; only the one text that stands for it is taken.

    Raises:
        ValueError: it is another one.
    """
    content = base64.b64decode(text, validate=True)
    if base64.b64encode(content).decode("ascii") != text:
        raise ValueError("base64 with bits that say nothing")
    return content
