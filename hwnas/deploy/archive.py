"""A bundle's files, in a directory or in an archive, read without believing either."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hwnas.deploy.manifest import MANIFEST_FILE
from hwnas.files import atomic_path

SUFFIX = ".tar.gz"
_LEVEL = 6
_MODE = 0o644
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a directory",
}
_PLAIN_TYPES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, *_KINDS)


class BrokenArchiveError(Exception):
    """An archive ends too early or is damaged."""


@dataclass(frozen=True)
class Member:
    """One entry; ``stream`` is to be read before the next one is asked for.

    Attributes:
        kind: ``None`` for a regular file, else what it is instead.
    """

    name: str
    size: int
    stream: IO[bytes]
    kind: str | None = None


def write_archive(contents: Iterable[tuple[str, Path | bytes]], path: Path) -> None:
    """Write files, in the given order, as gzipped USTAR: the same contents give the same bytes.

    There are no times, owners or modes of this machine in it; the bytes depend on the version of zlib alone.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
    ):
        write_tar(contents, packed)


def gzipped(content: bytes) -> bytes:
    """A content as :func:`write_archive` compresses."""
    buffer = io.BytesIO()
    with gzip.GzipFile("", "wb", _LEVEL, buffer, mtime=0) as packed:
        packed.write(content)
    return buffer.getvalue()


def write_tar(contents: Iterable[tuple[str, Path | bytes]], file: IO[bytes] | gzip.GzipFile) -> None:
    """Write files as an uncompressed USTAR archive of regular files of root's and no time."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in contents:
            info = tarfile.TarInfo(name)
            info.mode = _MODE
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.size = content.stat().st_size
                with content.open("rb") as source:
                    archive.addfile(info, source)


def manifest_first(names: Iterable[str]) -> list[str]:
    """The order of a bundle's files: a reader of the archive knows what to expect before it reads any of it."""
    return sorted(names, key=lambda name: (name != MANIFEST_FILE, name))


def members(path: Path) -> Iterator[Member]:
    """What a directory or an archive holds, the manifest first if it is there; directories count for nothing.

    Raises:
        BrokenArchiveError: what cannot be read any further.
    """
    return _in_directory(path) if path.is_dir() else _in_archive(path)


def _in_directory(directory: Path) -> Iterator[Member]:
    found: dict[str, Path] = {}
    for root, directories, files in os.walk(directory):
        here = Path(root)
        links = [name for name in directories if (here / name).is_symlink()]
        found |= {(here / name).relative_to(directory).as_posix(): here / name for name in (*files, *links)}
    for name in manifest_first(found):
        status = found[name].lstat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a special file"
            yield Member(name, 0, io.BytesIO(), kind)
            continue
        with found[name].open("rb") as stream:
            yield Member(name, status.st_size, stream)


def _in_archive(path: Path) -> Iterator[Member]:
    try:
        with gzip.open(path) as unpacked:
            with tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_PlainTarInfo) as archive:
                for info in archive:
                    stream = archive.extractfile(info) if info.isreg() else None
                    kind = None if info.isreg() else _KINDS.get(info.type, "a special file")
                    yield Member(info.name, info.size, stream or io.BytesIO(), kind)
            _require_only_padding(unpacked)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenArchiveError(f"the archive is damaged or cut off ({error})") from error


class _PlainTarInfo(tarfile.TarInfo):
    """A header without extensions: those are read into memory whole, however large they say that they are."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _PlainTarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type not in _PLAIN_TYPES:
            raise tarfile.ReadError(f"a header of type {info.type!r}")
        return info


def _require_only_padding(unpacked: gzip.GzipFile) -> None:
    """Read to the end, where the checksum is compared."""
    rest = unpacked.read(2 * tarfile.RECORDSIZE)
    if any(rest) or unpacked.read(1):
        raise BrokenArchiveError("something follows the archive's end")
