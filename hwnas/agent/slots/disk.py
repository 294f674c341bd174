"""Every call that slots make of the file system, in one object, so that tests can count them and fail at the n-th."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import List, Optional, Union

from ..protocol import AgentError, ErrorKind

_NEVER_FOLLOWED = os.O_NOFOLLOW | os.O_CLOEXEC


class Disk:
    """The operating system's calls, one method each; none of them follows a symlink at a path's end.

    All raise OSError, as the system does.
    """

    def open(self, path: Path, flags: int) -> int:
        """A descriptor; what is created is its owner's alone."""
        return os.open(str(path), flags | _NEVER_FOLLOWED, 0o600)

    def read(self, descriptor: int, size: int) -> bytes:
        """At most ``size`` bytes; none at the end."""
        return os.read(descriptor, size)

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """At most ``size`` bytes from ``offset`` on."""
        return os.pread(descriptor, size, offset)

    def size(self, descriptor: int) -> int:
        """Of an open file."""
        return os.fstat(descriptor).st_size

    def write(self, descriptor: int, data: Union[bytes, memoryview]) -> None:
        """All of ``data``."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file at ``size`` and go on writing there."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

    def fsync(self, descriptor: int) -> None:
        """Wait until a file's content, or a directory's entries, are on the medium."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor; a lock on it ends."""
        os.close(descriptor)

    def lock(self, descriptor: int) -> None:
        """Lock a file against all other processes, until it is closed.

        Raises:
            BlockingIOError: another one has it.
        """
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def mkdir(self, path: Path) -> None:
        """Make a directory that its owner alone can enter."""
        path.mkdir(mode=0o700)

    def list(self, path: Path) -> List[str]:
        """The names in a directory, sorted; none if there is no such directory."""
        try:
            return sorted(entry.name for entry in path.iterdir())
        except FileNotFoundError:
            return []

    def status(self, path: Path) -> Optional[os.stat_result]:
        """What lies at ``path`` itself; ``None`` if nothing."""
        try:
            return path.lstat()
        except FileNotFoundError:
            return None

    def rename(self, source: Path, destination: Path) -> None:
        """Put ``source`` in the place of ``destination``, at one moment."""
        source.replace(destination)

    def symlink(self, target: str, path: Path) -> None:
        """Make a symlink."""
        path.symlink_to(target)

    def readlink(self, path: Path) -> Optional[str]:
        """Where a symlink points; ``None`` if there is none."""
        try:
            return os.readlink(str(path))  # pathlib has it from Python 3.9 on
        except FileNotFoundError:
            return None

    def unlink(self, path: Path) -> None:
        """Remove a file or a symlink."""
        path.unlink()

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()

    def free_bytes(self, path: Path) -> int:
        """What may still be written to the file system of ``path``."""
        return shutil.disk_usage(str(path)).free


def is_directory(status: Optional[os.stat_result]) -> bool:
    """Whether there is a directory, and not a link to one."""
    return status is not None and stat.S_ISDIR(status.st_mode)


def disk_error(error: OSError) -> AgentError:
    """What the disk refused, as one sentence."""
    where = " at %s" % error.filename if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return AgentError(ErrorKind.DISK, "the board's disk is full%s; free some space and try again" % where)
    return AgentError(ErrorKind.DISK, "the board's disk failed%s: %s" % (where, error.strerror or error))
