"""A device as found by its agent."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Fingerprint(BaseModel):
    """*Identity* is what a timing depends on: it is compared and hashed.  *Context* is recorded beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: dict[str, Any]
    context: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Of the identity, hexadecimal."""
        canonical = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def emulator(self) -> str | None:
        """What emulates its processor, as far as that could be found; its times mean nothing then."""
        name = self.identity.get("emulator")
        return None if name is None else str(name)

    @property
    def identity8(self) -> str:
        """The first eight hexadecimal digits of :attr:`sha256`."""
        return self.sha256[:8]

    def differences(self, other: Fingerprint) -> list[str]:
        """Where the identities differ, as ``name: ours → theirs``, names and models first; empty if nowhere."""
        ours, theirs = flattened(self.identity), flattened(other.identity)
        names = sorted(ours.keys() | theirs.keys(), key=lambda name: (not name.endswith(("name", "model")), name))
        return [
            f"{name}: {ours.get(name)} → {theirs.get(name)}" for name in names if ours.get(name) != theirs.get(name)
        ]


def flattened(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level, with names such as ``cpu.model``."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= flattened(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
