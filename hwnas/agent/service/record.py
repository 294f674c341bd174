"""What a service leaves in its root: that it lives, what it last said of itself, and the budget that it keeps."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Optional

from ..protocol import AgentError, ErrorKind

_RECORD, _LOCK, _BUDGET = "service.json", "service.lock", "budget.json"
_PATIENCE_S = 1.0


class Presence:
    """The one service of a root, from the making of this object to the process's end."""

    def __init__(self, root: Path) -> None:
        """
        Raises:
            AgentError: ``bad-request`` when another service lives there.
        """
        self._root = root
        self._lock = os.open(str(root / _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + _PATIENCE_S  # whoever looks whether a service lives has the lock for a moment
        while not _locked(self._lock, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(self._lock)
                raise AgentError(ErrorKind.BAD_REQUEST, "another service serves %s; stop that one first" % root)
            time.sleep(0.01)

    def say(self, record: Dict[str, Any]) -> None:
        """Replace the record; it holds a token, so it is for its owner alone."""
        _replace(self._root / _RECORD, record, durable=False)

    def leave(self) -> None:
        """Take the record away."""
        with contextlib.suppress(FileNotFoundError):
            (self._root / _RECORD).unlink()
        os.close(self._lock)


def find_service(root: Path) -> Optional[Dict[str, Any]]:
    """The record of the service that lives in ``root``; ``None`` where there is none."""
    try:
        lock = os.open(str(root / _LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if _locked(lock, fcntl.LOCK_SH) else _read(root / _RECORD)
    finally:
        os.close(lock)


def keep_budget(root: Path, latency_ms: Optional[float]) -> None:
    """Write the budget, so that it outlives a restart."""
    _replace(root / _BUDGET, {"latency_ms": latency_ms}, durable=True)


def kept_budget(root: Path) -> Optional[float]:
    """The budget that was written, or ``None``."""
    found = (_read(root / _BUDGET) or {}).get("latency_ms")
    return float(found) if isinstance(found, (int, float)) and found > 0 else None


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Optional[Dict[str, Any]]:
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _replace(path: Path, record: Dict[str, Any], durable: bool) -> None:
    temporary = path.with_suffix(".part")
    descriptor = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(record, file)
        if durable:
            file.flush()
            os.fsync(descriptor)
    temporary.replace(path)
