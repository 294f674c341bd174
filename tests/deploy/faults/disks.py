"""Disks that count their calls and go wrong at the n-th."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple

from hwnas.agent.slots.disk import Disk

CALLS = tuple(name for name in vars(Disk) if not name.startswith("_"))
CHANGING = ("write", "truncate", "mkdir", "rename", "symlink", "unlink", "rmdir")
"""Between two of these calls, and the opening of a new file, the disk is as it was."""


class Call(NamedTuple):
    """A call as it was made."""

    name: str
    arguments: tuple[Any, ...]

    @property
    def changes(self) -> bool:
        return self.name in CHANGING or (self.name == "open" and bool(self.arguments[1] & os.O_CREAT))


class CountingDisk(Disk):
    """Remembers its calls; subclasses decide what becomes of each.  It does not wait for its medium."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in CALLS:
            return method

        def called(*arguments: Any) -> Any:
            call = Call(name, arguments)
            self.calls.append(call)
            return self.handle(call, method)

        return called

    def handle(self, call: Call, method: Any) -> Any:
        return method(*call.arguments)

    def fsync(self, descriptor: int) -> None:
        return None


class FailingDisk(CountingDisk):
    """Fails once, at its n-th call, counted from 0; what is written then is written in half."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._n = n

    def handle(self, call: Call, method: Any) -> Any:
        if len(self.calls) - 1 != self._n:
            return super().handle(call, method)
        if call.name == "close":
            method(*call.arguments)
        if call.name == "write":
            method(call.arguments[0], bytes(call.arguments[1])[: len(call.arguments[1]) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "the n-th call")


class DeadlyDisk(CountingDisk):
    """Ends the process as ``kill -9`` does, before the n-th of the calls that change something."""

    def __init__(self, n: int, in_half: bool = False) -> None:
        """``in_half``: what the n-th call would have written is written in half before."""
        super().__init__()
        self._left = n
        self._in_half = in_half

    def handle(self, call: Call, method: Any) -> Any:
        if call.changes:
            if not self._left:
                if self._in_half and call.name == "write":
                    method(call.arguments[0], bytes(call.arguments[1])[: len(call.arguments[1]) // 2])
                os._exit(9)
            self._left -= 1
        return super().handle(call, method)


class PowerCut(BaseException):
    """Nothing more happens."""


class UnpoweredDisk(CountingDisk):
    """Loses its power before the n-th call that changes or syncs something, and with it all that was not synced."""

    def __init__(self, root: Path, n: int) -> None:
        super().__init__()
        self._root = root
        self._left = n
        self._contents: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, os.stat_result | str]] = {}
        self._kept: list[int] = []
        self._remember(root)

    def __del__(self) -> None:
        for descriptor in self._kept:
            os.close(descriptor)

    def handle(self, call: Call, method: Any) -> Any:
        if call.changes or call.name == "fsync":
            if not self._left:
                raise PowerCut
            self._left -= 1
        elif not self._left and call.name != "close":
            raise PowerCut
        for path in call.arguments if call.name in ("rename", "unlink", "rmdir") else ():
            self._keep(path)
        return super().handle(call, method)

    def fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._entries[status.st_ino] = _entries(Path(f"/proc/self/fd/{descriptor}"))
        else:
            self._contents[status.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def restore(self, root: Path) -> None:
        """What is found when the power comes back."""
        self._restore(self._root.stat().st_ino, root)

    def _restore(self, directory: int, path: Path) -> None:
        path.mkdir(mode=0o700)
        for name, entry in self._entries.get(directory, {}).items():
            if isinstance(entry, str):
                (path / name).symlink_to(entry)
            elif stat.S_ISDIR(entry.st_mode):
                self._restore(entry.st_ino, path / name)
            else:
                (path / name).write_bytes(self._contents.get(entry.st_ino, b""))

    def _remember(self, directory: Path) -> None:
        """All that is there at the beginning was synced."""
        self._entries[directory.stat().st_ino] = _entries(directory)
        for path in directory.iterdir():
            if path.is_dir() and not path.is_symlink():
                self._remember(path)
            elif not path.is_symlink():
                self._contents[path.stat().st_ino] = path.read_bytes()

    def _keep(self, path: Path) -> None:
        """Keep what may be removed open, so that its number is not given to something else."""
        if path.exists() and not path.is_symlink():
            self._kept.append(os.open(path, os.O_RDONLY))


def _entries(directory: Path) -> dict[str, os.stat_result | str]:
    return {path.name: str(path.readlink()) if path.is_symlink() else path.lstat() for path in directory.iterdir()}
