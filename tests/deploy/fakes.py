"""A builder and a health check that take no time, and a board with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.agent.slots.building import Builder
from hwnas.agent.slots.disk import Disk
from hwnas.agent.slots.health import Health
from hwnas.agent.slots.installing import Outcome, install
from hwnas.agent.slots.manifest import Model
from hwnas.agent.slots.slot_files import SlotFiles
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import TinyBundle, make_key, public_hex


class QuickDisk(Disk):
    """A disk that does not wait for its medium."""

    def fsync(self, descriptor: int) -> None:
        return None


class FakeBuilder(Builder):
    """Copies the model, of a runtime that is always of today."""

    def __init__(self) -> None:
        self.built: list[str] = []

    def build(self, files: SlotFiles, model: Model, output: Path) -> dict[str, Any]:
        self.built.append(model.id)
        output.write_bytes(files.content(model.onnx))
        return {"origin": "built", "runtime": "onnxruntime", "runtime_version": "0", "options": {"provider": "none"}}

    def is_of_today(self, record: dict[str, Any]) -> bool:
        return bool(record["runtime_version"] == "0")


class FakeHealth(Health):
    """Finds what it is told to find."""

    def __init__(self, complaint: str | None = None, refusal: str | None = None) -> None:
        self.complaint = complaint
        self._refusal = refusal

    def check(self, candidate: SlotFiles, current: SlotFiles | None) -> dict[str, Any]:
        for model in candidate.manifest.models:
            candidate.engine(model)
        checks = (
            [] if self.complaint is None else [{"name": "golden", "model": "m0", "ok": False, "says": self.complaint}]
        )
        return {"healthy": not checks, "checks": checks, "contended": False, "live": None, "service": False}

    def refusal(self, digest: str, service: bool) -> str | None:
        return self._refusal


def board(root: Path, disk: Disk | None = None) -> Slots:
    """Slots that trust ``make_key()``."""
    slots = Slots(root, disk or QuickDisk())
    slots.trust(public_hex(make_key()), "the usual key")
    return slots


def send(slots: Slots, archive: bytes, sha256: str, chunk: int = 1 << 20) -> None:
    """Send an archive, or the rest of it, in chunks."""
    offset = slots.receive(sha256, len(archive)).bytes
    while offset < len(archive):
        offset = slots.put(sha256, offset, len(archive), archive[offset : offset + chunk])


def deliver(slots: Slots, bundle: TinyBundle, builder: Builder | None = None, health: Health | None = None) -> Outcome:
    """Send a bundle and install it."""
    send(slots, bundle.archive, bundle.sha256)
    return install(slots, bundle.sha256, builder or FakeBuilder(), health or FakeHealth())
