"""Who has the board: one session at a time, until its lease runs out.

The lock file is the whole board's, whoever logs in: ``$HWNAS_LOCK`` or ``/tmp/hwnas-board.lock``.  Times in it are
those of the monotonic clock of one boot, since a board without battery does not know the date.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

_DEFAULT_PATH = "/tmp/hwnas-board.lock"  # noqa: S108  # where every user of a board may write; it is opened with care
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LONGEST_RECORD = 4096


class HeldError(Exception):
    """Another session has the board."""

    def __init__(self, owner: str, seconds: float) -> None:
        super().__init__("held by %s for another %.0f s" % (owner, seconds))
        self.owner = owner
        self.seconds = seconds


class Lease:
    """One session's claim to the board; every call is atomic among sessions."""

    def __init__(self, session: str, owner: str, path: Optional[Path] = None) -> None:
        """``session`` tells claims apart, ``owner`` is told to whoever is refused."""
        self._session, self._owner = session, owner
        self._path = path or Path(os.environ.get("HWNAS_LOCK") or _DEFAULT_PATH)
        self._boot = boot_id()

    def take(self, seconds: float) -> None:
        """Have the board from now on for ``seconds``; again, by the session that has it: so long from now on.

        Raises:
            HeldError: another session's lease has not run out.
            OSError: the lock file cannot be written.
        """
        with self._opened() as descriptor:
            record = _read(descriptor)
            if self._is_anothers(record):
                raise HeldError(str(record["owner"])[:200], record["until"] - time.monotonic())
            self._write(descriptor, seconds)

    def shorten(self, seconds: float) -> bool:
        """Have the board for ``seconds`` from now on if this very process took it last; gives whether it did."""
        with self._opened() as descriptor:
            record = _read(descriptor)
            mine = record.get("session") == self._session and record.get("holder") == os.getpid()
            if mine:
                self._write(descriptor, seconds)
            return mine

    def release(self) -> None:
        """Let go of the board, if this session has it."""
        with self._opened() as descriptor:
            if _read(descriptor).get("session") == self._session:
                os.ftruncate(descriptor, 0)

    def _write(self, descriptor: int, seconds: float) -> None:
        record = {
            "session": self._session,
            "owner": self._owner,
            "holder": os.getpid(),
            "boot": self._boot,
            "until": time.monotonic() + seconds,
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(record).encode(), 0)

    def _is_anothers(self, record: Dict[str, Any]) -> bool:
        return (
            record.get("session") != self._session
            and record.get("boot") == self._boot
            and isinstance(record.get("until"), float)
            and record["until"] > time.monotonic()
        )

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(str(self._path), flags)
        except FileNotFoundError:
            descriptor = self._created(flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def _created(self, flags: int) -> int:
        try:
            descriptor = os.open(str(self._path), flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return os.open(str(self._path), flags)  # another session was faster
        os.fchmod(descriptor, 0o666)  # the next session may be another user's; the mask does not count here
        return descriptor


def _read(descriptor: int) -> Dict[str, Any]:
    """What the lock file says; nothing where it is empty or torn."""
    try:
        record = json.loads(os.pread(descriptor, _LONGEST_RECORD, 0))
    except ValueError:
        return {}
    return record if isinstance(record, dict) and "owner" in record else {}


def boot_id() -> str:
    """Which start of the board this is; ``unknown`` where the kernel does not tell."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"
