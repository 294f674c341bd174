"""Archives on their way to the board: received in pieces, resumable, and whole only when their hash is right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ..protocol import AgentError, ErrorKind
from . import durable
from .disk import Disk
from .layout import Layout, checked_sha256


class Received(NamedTuple):
    """What of an archive is here."""

    bytes: int
    sha256: str
    """Of these bytes, for the sender to compare with those that it would skip."""


class Incoming:
    """The directory ``incoming``; one archive at a time."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._layout = layout
        self._disk = disk

    def received(self, sha256: str) -> Received:
        """What of an archive has arrived."""
        for path in (self._layout.archive(sha256), self._layout.partial(sha256)):
            status = self._disk.status(path)
            if status is not None:
                return Received(status.st_size, durable.sha256_of(self._disk, path))
        return Received(0, "")

    def make_room(self, sha256: str, size: int) -> None:
        """Drop all other archives.

        Raises:
            AgentError: ``disk``, when there is not twice the archive's size: it is unpacked beside itself.
        """
        mine = (self._layout.archive(sha256), self._layout.partial(sha256))
        for name in self._disk.list(self._layout.incoming):
            if self._layout.incoming / name not in mine:
                durable.remove(self._disk, self._layout.incoming / name)
        require_free(self._disk, self._layout.incoming, 2 * size - self.received(sha256).bytes)

    def put(self, sha256: str, offset: int, size: int, chunk: bytes) -> int:
        """Take a chunk; what lay behind it is cut off.  Gives the bytes that have arrived.

        Raises:
            AgentError: ``bad-request`` when the chunk leaves a gap or exceeds the size; ``bad-bundle`` when the whole
                has another hash (it is thrown away).
        """
        if self.is_whole(sha256):
            return size
        partial = self._layout.partial(sha256)
        status = self._disk.status(partial)
        arrived = 0 if status is None else status.st_size
        if offset > arrived or offset + len(chunk) > size:
            raise AgentError(
                ErrorKind.BAD_REQUEST,
                "a chunk of %d bytes at %d does not fit: %d of %d have arrived" % (len(chunk), offset, arrived, size),
            )
        with durable.opened(self._disk, partial, os.O_WRONLY | os.O_CREAT) as descriptor:
            self._disk.truncate(descriptor, offset)
            self._disk.write(descriptor, chunk)
            if offset + len(chunk) == size:
                self._disk.fsync(descriptor)
        if offset + len(chunk) == size:
            self._admit(sha256, partial)
        return offset + len(chunk)

    def admit_left(self, sha256: str, size: int) -> None:
        """Take an archive whose last chunk came, but whoever received it was killed then; drop it if it is wrong."""
        partial = self._layout.partial(sha256)
        status = self._disk.status(partial)
        if status is None or status.st_size < size:
            return
        if status.st_size == size and durable.sha256_of(self._disk, partial) == sha256:
            durable.sync(self._disk, partial)
            durable.move(self._disk, partial, self._layout.archive(sha256))
        else:
            durable.remove(self._disk, partial)

    def is_whole(self, sha256: str) -> bool:
        """Whether the archive has arrived."""
        return self._disk.status(self._layout.archive(sha256)) is not None

    def drop(self, sha256: str) -> None:
        """Forget an archive, whole or in part."""
        durable.remove(self._disk, self._layout.archive(sha256))
        durable.remove(self._disk, self._layout.partial(sha256))

    def _admit(self, sha256: str, partial: Path) -> None:
        found = durable.sha256_of(self._disk, partial)
        if found != checked_sha256(sha256, "an archive"):
            durable.remove(self._disk, partial)
            raise AgentError(
                ErrorKind.BAD_BUNDLE,
                "what was received hashes to %s, not to %s, and was thrown away; send it anew"
                % (found[:12], sha256[:12]),
            )
        durable.move(self._disk, partial, self._layout.archive(sha256))


def require_free(disk: Disk, directory: Path, needed: int) -> None:
    """
    Raises:
        AgentError: ``disk``, when less than ``needed`` bytes are free.
    """
    free = disk.free_bytes(directory)
    if free < needed:
        raise AgentError(
            ErrorKind.DISK,
            "%.1f MB are free at %s, and %.1f MB are needed; run 'hwnas slots gc' or free some space"
            % (free / 1e6, directory, needed / 1e6),
        )
