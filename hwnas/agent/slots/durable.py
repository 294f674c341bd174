"""Files that are on the disk wholly or not at all, whatever is killed and whenever the power fails."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Iterator, List, Optional

from .disk import Disk, is_directory

PIECE = 1 << 20
"""Bytes of a file in memory at once."""
_LOOK_BACK = 1 << 16
"""Bytes of a log that are read at once to find its last line."""


@contextlib.contextmanager
def opened(disk: Disk, path: Path, flags: int) -> Iterator[int]:
    """A descriptor, closed in the end."""
    descriptor = disk.open(path, flags)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


def make_directory(disk: Disk, path: Path) -> None:
    """Make a directory and all above it, durably; one that is there is no error."""
    if is_directory(disk.status(path)):
        return
    make_directory(disk, path.parent)
    disk.mkdir(path)
    sync(disk, path.parent)


def sync(disk: Disk, path: Path) -> None:
    """Wait until a file's content or a directory's entries are on the medium."""
    with opened(disk, path, os.O_RDONLY) as descriptor:
        disk.fsync(descriptor)


def sync_tree(disk: Disk, path: Path) -> None:
    """:func:`sync` of all that is in a directory, and of itself."""
    for name in disk.list(path):
        if is_directory(disk.status(path / name)):
            sync_tree(disk, path / name)
        else:
            sync(disk, path / name)
    sync(disk, path)


def create(disk: Disk, path: Path, content: bytes) -> None:
    """A new file with its content on the medium; its name becomes durable with its directory."""
    with opened(disk, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        disk.write(descriptor, content)
        disk.fsync(descriptor)


def replace(disk: Disk, path: Path, content: bytes) -> None:
    """Put a file of ``content`` in the place of what was there, at one moment."""
    temporary = path.with_name(path.name + ".part")
    remove(disk, temporary)
    create(disk, temporary, content)
    move(disk, temporary, path)


def point(disk: Disk, link: Path, target: Optional[str]) -> None:
    """Let a symlink point to ``target`` from one moment on; ``None``: remove it."""
    if target is None:
        remove(disk, link)
        sync(disk, link.parent)
        return
    temporary = link.with_name(link.name + ".part")
    remove(disk, temporary)
    disk.symlink(target, temporary)
    move(disk, temporary, link)


def move(disk: Disk, source: Path, destination: Path) -> None:
    """Rename, and wait until that is on the medium."""
    disk.rename(source, destination)
    sync(disk, destination.parent)
    if source.parent != destination.parent:
        sync(disk, source.parent)


def read(disk: Disk, path: Path) -> Optional[bytes]:
    """A file's content; ``None`` if there is none."""
    try:
        with opened(disk, path, os.O_RDONLY) as descriptor:
            return b"".join(pieces(disk, descriptor))
    except FileNotFoundError:
        return None


def pieces(disk: Disk, descriptor: int) -> Iterator[bytes]:
    """What is left of an open file."""
    while True:
        piece = disk.read(descriptor, PIECE)
        if not piece:
            return
        yield piece


def sha256_of(disk: Disk, path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with opened(disk, path, os.O_RDONLY) as descriptor:
        for piece in pieces(disk, descriptor):
            digest.update(piece)
    return digest.hexdigest()


def append_line(disk: Disk, path: Path, line: bytes) -> None:
    """Append ``line`` to a log, durably; a torn line that a kill left behind is cut off first."""
    new = disk.status(path) is None
    with opened(disk, path, os.O_RDWR | os.O_CREAT) as descriptor:
        disk.truncate(descriptor, _end_of_line_before(disk, descriptor, disk.size(descriptor)))
        disk.write(descriptor, line + b"\n")
        disk.fsync(descriptor)
    if new:
        sync(disk, path.parent)


def last_line(disk: Disk, path: Path) -> bytes:
    """The last whole line of a log, nothing if there is none: a log may be long."""
    try:
        with opened(disk, path, os.O_RDONLY) as descriptor:
            end = _end_of_line_before(disk, descriptor, disk.size(descriptor))
            start = _end_of_line_before(disk, descriptor, end - 1)
            return disk.read_at(descriptor, end - start, start)
    except FileNotFoundError:
        return b""


def whole_lines(content: bytes) -> List[bytes]:
    """The lines of a log; a torn last one is not there."""
    return content.split(b"\n")[:-1]


def _end_of_line_before(disk: Disk, descriptor: int, place: int) -> int:
    """Where the last line ends that does so before ``place``; 0 if none does."""
    while place > 0:
        start = max(0, place - _LOOK_BACK)
        newline = disk.read_at(descriptor, place - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        place = start
    return 0


def remove(disk: Disk, path: Path) -> None:
    """Remove a file, a symlink, or a directory with all in it; what is not there is no error."""
    status = disk.status(path)
    if status is None:
        return
    if not is_directory(status):
        disk.unlink(path)
        return
    for name in disk.list(path):
        remove(disk, path / name)
    disk.rmdir(path)
