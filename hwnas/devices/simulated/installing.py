"""A board in this process that installs bundles as every board does, and fails in a way of its own.

The slots are real files below a directory; building and checking take no time, and nothing waits for the medium.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hwnas.agent.protocol import AgentError, ErrorKind, encode
from hwnas.agent.server import Agent
from hwnas.agent.slots.building import Builder
from hwnas.agent.slots.disk import Disk
from hwnas.agent.slots.health import Health
from hwnas.agent.slots.manifest import Model
from hwnas.agent.slots.requests import SlotRequests
from hwnas.agent.slots.slot_files import SlotFiles
from hwnas.devices.base import AgentProcess, Connection
from hwnas.devices.errors import AgentLostError, UnreachableError

Kind = Literal["unbuildable", "unhealthy", "unserved", "disk-full", "power-loss", "reset", "silence"]
_RUNTIME = "onnxruntime"
_COMPLAINTS = (
    ("golden", "golden outputs differ by 3 at most, 0.001 and 0 of the output are allowed"),
    ("latency", "p99 is 9.000 ms of 662 runs, the budget 5 ms"),
    ("memory", "it takes 900.0 MiB, 512.0 MiB are its budget"),
    ("throttling", "the board throttled while latency was measured: its counter rose"),
)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong on a board.

    ``unbuildable``: the runtime refuses the model. ``unhealthy``: the health check finds it unfit. ``unserved``: the
    service does not take it after the switch. ``disk-full``: from the ``at``-th write on. ``power-loss``: once, at the
    ``at``-th call of the disk, which is not done. ``reset``: every agent dies with its ``at``-th request.
    ``silence``: nobody answers from the ``at``-th request on.
    """

    kind: Kind
    at: int = 1


class _PowerLossError(BaseException):
    """Nothing of this process gets to know of it."""


class InstallingBoard(Connection):
    """The way to a board whose slots lie below a directory of this machine."""

    def __init__(self, trouble: Trouble | None = None) -> None:
        """``trouble``: what goes wrong there; ``None``: nothing."""
        self.trouble = trouble
        self.heard = 0
        """Requests, over all agents."""
        self._home = Path(tempfile.mkdtemp(prefix="hwnas-board-"))
        self._losses = 1

    def start_agent(self) -> AgentProcess:
        """An agent in this process."""
        if self.silent:
            raise UnreachableError("the simulated board cannot be reached: nobody answers.")
        self._home.mkdir(mode=0o700, exist_ok=True)
        disk = _TroubledDisk(self._disk_trouble())
        requests = SlotRequests(
            lambda: disk, lambda: _Builder(self.trouble), lambda root, _: _Health(root, self.trouble)
        )
        return _InProcess(self, Agent(self._home, requests))

    def close(self) -> None:
        """Remove what its agents kept beside the slots."""
        shutil.rmtree(self._home, ignore_errors=True)

    @property
    def silent(self) -> bool:
        """Whether nobody answers any more."""
        trouble = self.trouble
        return trouble is not None and trouble.kind == "silence" and self.heard >= trouble.at

    def _disk_trouble(self) -> Trouble | None:
        """A power loss comes once."""
        if self.trouble is None or self.trouble.kind not in ("disk-full", "power-loss"):
            return None
        if self.trouble.kind == "power-loss":
            self._losses -= 1
            return self.trouble if self._losses >= 0 else None
        return self.trouble


class _InProcess(AgentProcess):
    def __init__(self, board: InstallingBoard, agent: Agent) -> None:
        self._board, self._agent, self._heard = board, agent, 0
        self.lost = False

    @property
    def alive(self) -> bool:
        return not self.lost

    def exchange(self, line: bytes, timeout_s: float) -> bytes:  # noqa: ARG002
        """The reply; ``timeout_s`` is of no account, since nothing takes time."""
        self._heard += 1
        self._board.heard += 1
        trouble = self._board.trouble
        if self.lost or self._board.silent:
            raise self._end("the simulated connection broke")
        try:
            reply = encode(self._agent.answer(line))
        except _PowerLossError:
            raise self._end("the simulated board lost its power") from None
        if trouble is not None and trouble.kind == "reset" and self._heard >= trouble.at:
            raise self._end("the simulated agent died")
        return reply

    def last_words(self) -> str:
        return ""

    def kill(self) -> None:
        self.lost = True

    def stop(self) -> None:
        self._agent.close()
        self.lost = True

    def _end(self, why: str) -> AgentLostError:
        self.lost = True
        return AgentLostError(why)


class _TroubledDisk(Disk):
    """Runs full, or loses its power; it never waits for its medium."""

    def __init__(self, trouble: Trouble | None) -> None:
        self._full_after = trouble.at if trouble and trouble.kind == "disk-full" else None
        self._dies_at = trouble.at if trouble and trouble.kind == "power-loss" else None
        self._calls = self._writes = 0
        self._dead = False

    def open(self, path: Path, flags: int) -> int:
        self._call()
        return super().open(path, flags)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        self._call()
        self._writes += 1
        if self._full_after is not None and self._writes >= self._full_after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the simulated disk")
        super().write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        self._call()
        super().truncate(descriptor, size)

    def fsync(self, descriptor: int) -> None:  # noqa: ARG002
        self._call()

    def close(self, descriptor: int) -> None:
        super().close(descriptor)  # with the process ends the lock, too
        self._call()

    def mkdir(self, path: Path) -> None:
        self._call()
        super().mkdir(path)

    def rename(self, source: Path, destination: Path) -> None:
        self._call()
        super().rename(source, destination)

    def symlink(self, target: str, path: Path) -> None:
        self._call()
        super().symlink(target, path)

    def unlink(self, path: Path) -> None:
        self._call()
        super().unlink(path)

    def rmdir(self, path: Path) -> None:
        self._call()
        super().rmdir(path)

    def _call(self) -> None:
        self._calls += 1
        self._dead = self._dead or self._calls == self._dies_at
        if self._dead:
            raise _PowerLossError


class _Builder(Builder):
    """Copies the model."""

    def __init__(self, trouble: Trouble | None) -> None:
        self._refuses = trouble is not None and trouble.kind == "unbuildable"

    def build(self, files: SlotFiles, model: Model, output: Path) -> dict[str, Any]:
        if self._refuses:
            raise AgentError(ErrorKind.MODEL_REFUSED, "the simulated runtime refuses the model")
        output.write_bytes(files.content(model.onnx))
        return {"origin": "built", "runtime": _RUNTIME, "runtime_version": "simulated", "options": {"provider": "none"}}

    def is_of_today(self, record: dict[str, Any]) -> bool:
        return bool(record["runtime_version"] == "simulated")


class _Health(Health):
    """Finds what is to be found."""

    def __init__(self, root: Path, trouble: Trouble | None) -> None:
        super().__init__(root)
        self._trouble = trouble

    def check(self, candidate: SlotFiles, current: SlotFiles | None) -> dict[str, Any]:
        for files in filter(None, (candidate, current)):
            for model in files.manifest.models:
                files.engine(model)
        checks = []
        if self._trouble is not None and self._trouble.kind == "unhealthy":
            name, says = _COMPLAINTS[self._trouble.at % len(_COMPLAINTS)]
            checks = [{"name": name, "model": candidate.manifest.models[0].id, "ok": False, "says": says}]
        return {
            "healthy": not checks,
            "checks": checks,
            "contended": False,
            "live": None,
            "service": False,
        }

    def refusal(self, digest: str, service: bool) -> str | None:  # noqa: ARG002
        unserved = self._trouble is not None and self._trouble.kind == "unserved"
        return f"the simulated service does not take slot {digest[:12]}" if unserved else None
