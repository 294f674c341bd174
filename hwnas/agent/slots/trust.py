"""The keys whose bundles a board takes, and those that it will never take again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..protocol import AgentError, ErrorKind, Fields
from . import durable
from .disk import Disk
from .dsse import Envelope
from .ed25519 import is_public_key
from .layout import checked_sha256


@dataclass(frozen=True)
class TrustedKeys:
    """The content of ``trusted_keys.json``: of each key its public part, of each revoked one the reason."""

    keys: Dict[str, Dict[str, str]] = field(default_factory=dict)
    revoked: Dict[str, Dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, disk: Disk, path: Path) -> "TrustedKeys":
        """The file's; none where there is no file.

        Raises:
            AgentError: ``disk``, when the file is not what was written.
        """
        content = durable.read(disk, path)
        if content is None:
            return cls()
        try:
            fields = Fields(json.loads(content.decode("utf-8")))
            trusted = cls(dict(fields.record("keys")), dict(fields.record("revoked")))
            right = all(keyid_of(raw) == keyid for keyid, raw in trusted._raw().items())
        except (ValueError, KeyError, TypeError, AttributeError, AgentError) as error:
            raise _damaged(path) from error
        if not right or fields.message.get("schema") != 1:
            raise _damaged(path)
        return trusted

    def write(self, disk: Disk, path: Path) -> None:
        """Write the file, durably."""
        record = {"schema": 1, "keys": self.keys, "revoked": self.revoked}
        durable.replace(disk, path, json.dumps(record, indent=1, sort_keys=True).encode("utf-8") + b"\n")

    def trusting(self, public_hex: str, comment: str, confirmed: bool, now: str) -> Tuple["TrustedKeys", str]:
        """These and one more key, and its id.

        Raises:
            AgentError: ``bad-request`` when it is no key; ``untrusted`` when it was revoked, or when there are keys
                already and nobody has confirmed this one.
        """
        try:
            public = bytes.fromhex(public_hex)
        except ValueError:
            public = b""
        if not is_public_key(public):
            raise AgentError(ErrorKind.BAD_REQUEST, "%r is no Ed25519 public key in hexadecimal" % public_hex[:80])
        keyid = keyid_of(public)
        if keyid in self.revoked:
            raise AgentError(ErrorKind.UNTRUSTED, self._revocation(keyid))
        if keyid in self.keys:
            return self, keyid
        if (self.keys or self.revoked) and not confirmed:
            raise AgentError(
                ErrorKind.UNTRUSTED,
                "the board trusts %s already; confirm that key %s may be another" % (self._names(), keyid[:16]),
            )
        added = {"public": public.hex(), "comment": comment, "added": now}
        return replace(self, keys={**self.keys, keyid: added}), keyid

    def revoking(self, keyid: str, reason: str, now: str) -> "TrustedKeys":
        """These, of which ``keyid`` counts no more, whether it was known or not."""
        if checked_sha256(keyid, "a key") in self.revoked:
            return self
        return replace(self, revoked={**self.revoked, keyid: {"reason": reason, "revoked": now}})

    def require_signer(self, envelope: Envelope, what: str) -> str:
        """The id of the trusted key that signed ``envelope``.

        Raises:
            AgentError: ``untrusted``, with whose signature was found instead.
        """
        raw = self._raw()
        signer = envelope.signer({keyid: raw[keyid] for keyid in raw if keyid not in self.revoked})
        if signer is None:
            raise AgentError(ErrorKind.UNTRUSTED, "%s is refused: %s" % (what, self._complaint(envelope)))
        return signer

    def _complaint(self, envelope: Envelope) -> str:
        named: List[str] = [keyid for keyid, _ in envelope.signatures]
        for keyid in named:
            if keyid in self.revoked:
                return self._revocation(keyid)
        for keyid in named:
            if keyid in self.keys:
                return "its signature by key %s is wrong" % keyid[:16]
        by = ", ".join("key %s" % keyid[:16] for keyid in named[:3]) or "nobody"
        return "it is signed by %s; the board trusts %s" % (by, self._names())

    def _revocation(self, keyid: str) -> str:
        return "key %s was revoked (%s)" % (keyid[:16], self.revoked[keyid].get("reason", "no reason given"))

    def _names(self) -> str:
        usable = sorted(set(self.keys) - set(self.revoked))
        return ", ".join("key %s" % keyid[:16] for keyid in usable) or "no key"

    def _raw(self) -> Dict[str, bytes]:
        return {keyid: bytes.fromhex(record["public"]) for keyid, record in self.keys.items()}

    def as_status(self) -> Dict[str, Any]:
        """For the status: lists of keys, each with its id."""
        return {
            "trusted": [dict(record, keyid=keyid) for keyid, record in self.keys.items() if keyid not in self.revoked],
            "revoked": [dict(record, keyid=keyid) for keyid, record in self.revoked.items()],
        }


def keyid_of(public: bytes) -> str:
    """The id of a raw public key."""
    return hashlib.sha256(public).hexdigest()


def _damaged(path: Path) -> AgentError:
    return AgentError(ErrorKind.DISK, "%s is damaged; remove it and trust the keys anew" % path)
