"""The slots of one board, as its agent tells of them and changes them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hwnas.agent.protocol import CHUNK_BYTES
from hwnas.deploy.signing import PublicKey
from hwnas.devices import Device
from hwnas.errors import UserError
from hwnas.progress import Progress

_UNPACKING_S = 600.0
_LOADING_S = 60.0
"""How long the board lets its service take to load a slot."""
_SWITCHING_S = 120.0
_CHECKING_S = 300.0
_RUNS = 3 * 662
"""The health check measures for so many times a budget at most."""


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SlotState(_Told):
    """One installed bundle."""

    name: str
    version: int
    state: str
    bytes: int
    keyid: str
    reason: str | None = None
    health: dict[str, Any] | None = None


class BoardKey(_Told):
    """A key that a board trusts, or no longer."""

    keyid: str
    comment: str = ""
    reason: str | None = None


class HighestVersion(_Told):
    """The latest bundle of a name that a board has ever served."""

    version: int
    digest: str


class SlotsStatus(_Told):
    """What is installed on a board."""

    root: str
    current: str | None
    previous: str | None
    slots: dict[str, SlotState]
    highest: dict[str, HighestVersion]
    """By the bundle's name."""
    trusted: list[BoardKey]
    revoked: list[BoardKey]
    service: dict[str, Any] | None
    """What the service that runs last said of itself; ``None``: none runs."""
    disk_free_bytes: int = Field(ge=0)

    def state_of(self, digest: str | None) -> str | None:
        """The state of a slot; ``None`` where there is none such."""
        slot = self.slots.get(digest or "")
        return None if slot is None else slot.state


@dataclass(frozen=True)
class BoardSlots:
    """Asks a board's agent; every method raises :class:`~hwnas.devices.errors.RefusedError` for what it refuses, and
    :class:`~hwnas.devices.errors.AgentLostError` where the way to it breaks.
    """

    device: Device
    root: str | None = None
    """Directory of the slots on the board; ``None``: the usual one."""

    def status(self) -> SlotsStatus:
        """What is installed."""
        return SlotsStatus.model_validate(self._ask("status", "telling its slots"))

    def audit(self, last: int = 1000) -> list[dict[str, Any]]:
        """The last events, oldest first."""
        return list(self._ask("audit", "telling its audit", last=last)["events"])

    def send(self, archive: Path, sha256: str, progress: Progress) -> None:
        """Send an archive, of which the SHA-256 is known, from where an earlier attempt broke off."""
        size = archive.stat().st_size
        there = self._ask("receive", "receiving a bundle", sha256=sha256, size=size)
        offset = int(there["received"])
        with archive.open("rb") as file:
            if offset < size and hashlib.sha256(file.read(offset)).hexdigest() != there["prefix_sha256"]:
                offset = 0
            file.seek(offset)
            progress.start("sending", size / 1e3, offset / 1e3, unit="kB")
            while chunk := file.read(CHUNK_BYTES):
                data = base64.b64encode(chunk).decode("ascii")
                self._ask("put", "receiving a bundle", sha256=sha256, offset=offset, size=size, data=data)
                offset += len(chunk)
                progress.advance(len(chunk) / 1e3)
        progress.finish()

    def verify(self, archive_sha256: str) -> str:
        """Have an archive that was sent verified and unpacked; gives its slot."""
        return str(self._ask("verify", "verifying a bundle", _UNPACKING_S, sha256=archive_sha256)["digest"])

    def build(self, digest: str, timeout_s: float) -> dict[str, Any]:
        """Have a slot's engines built, or taken where one was built for this device; gives their records by model."""
        return dict(self._ask("build", "building an engine", timeout_s, digest=digest)["models"])

    def check(self, digest: str, budgets_ms: float) -> dict[str, Any]:
        """The result of the health check.

        Args:
            digest: the slot.
            budgets_ms: all budgets of its models together.
        """
        return self._ask("check", "checking a slot", _CHECKING_S + _RUNS * budgets_ms / 1e3, digest=digest)

    def activate(self, digest: str) -> None:
        """Have ``current`` point at a slot."""
        self._ask("activate", "switching to a slot", digest=digest)

    def confirm(self, digest: str) -> None:
        """Keep the current slot, once the service serves it if one runs; that it does not is refused."""
        self._ask("confirm", "confirming a slot", _LOADING_S + _SWITCHING_S, digest=digest)

    def roll_back(self, reason: str, to: str | None = None) -> str | None:
        """Go back to the previous slot or another that was confirmed; gives the current one then."""
        found: dict[str, Any] = {} if to is None else {"to": self.find(to)}
        current = self._ask("rollback", "rolling back", reason=reason, **found)["current"]
        return None if current is None else str(current)

    def collect(self, keep: int) -> list[str]:
        """Remove slots that are neither current nor previous until ``keep`` are left; gives them."""
        return [str(digest) for digest in self._ask("collect", "removing slots", keep=keep)["removed"]]

    def trust(self, key: PublicKey, comment: str) -> None:
        """Have bundles taken that a key has signed; whoever calls this has confirmed that they may be.

        Raises:
            RefusedError: the key was revoked there.
        """
        self._ask("trust", "trusting a key", public=key.public, comment=comment, confirmed=True)

    def revoke(self, key: PublicKey, reason: str) -> None:
        """Have nothing of a key taken any more, not even what is installed; that cannot be undone."""
        self._ask("revoke", "revoking a key", keyid=key.keyid, reason=reason)

    def find(self, prefix: str) -> str:
        """The slot whose digest begins so.

        Raises:
            UserError: none does, or several.
        """
        found = [digest for digest in self.status().slots if digest.startswith(prefix)]
        if len(found) != 1:
            many = "several slots begin" if found else "no slot begins"
            raise UserError(f"On '{self.device.target.name}' {many} with {prefix}; `hwnas status` lists them.")
        return found[0]

    def _ask(self, request: str, doing: str, timeout_s: float = _SWITCHING_S, **fields: Any) -> dict[str, Any]:
        at = {} if self.root is None else {"root": self.root}
        return self.device.slots(request, doing, timeout_s, **at, **fields)
