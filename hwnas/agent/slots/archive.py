"""Unpack a bundle's archive, of which nothing is trusted before its first member, the signed envelope.

The reader knows regular files in USTAR and nothing else.  The standard library's reads extended headers of any size,
links and devices before anybody could have asked who made them.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Set

from ..protocol import AgentError, ErrorKind
from .disk import Disk
from .durable import opened, sync
from .manifest import ENVELOPE, MOST_ENVELOPE_BYTES, Manifest

_BLOCK = 512
_PIECE = 1 << 16
_MOST_PADDING = 10_240
"""Zeros in the end: tar fills its last record."""
_GZIP = 16 + zlib.MAX_WBITS
_KINDS = {
    b"1": "a hard link",
    b"2": "a symlink",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a FIFO",
}


class Archive:
    """A ``.tar.gz`` that is read once, from its beginning to its end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """``read`` gives at most so many bytes, none at the end."""
        self._content = _Inflated(read)

    def envelope(self) -> bytes:
        """The content of the first member.

        Raises:
            AgentError: ``bad-bundle``, when it is not the envelope.
        """
        first = self._next()
        if first is None or first.name != ENVELOPE:
            found = "nothing" if first is None else "'%s'" % first.name
            raise _bad("its first member is %s, not '%s'" % (found, ENVELOPE))
        if first.size > MOST_ENVELOPE_BYTES:
            raise _bad("'%s' has %d bytes; at most %d are taken" % (ENVELOPE, first.size, MOST_ENVELOPE_BYTES))
        content = self._content.exactly(first.size)
        self._skip_padding(first)
        return content

    def unpack(self, disk: Disk, manifest: Manifest, directory: Path) -> None:
        """Write the other members into ``directory``, which is there and empty, durably.

        Raises:
            AgentError: ``bad-bundle``, when they are not exactly the manifest's files.
        """
        seen: Set[str] = set()
        made: List[Path] = [directory]
        member = self._next()
        while member is not None:
            self._require_expected(member, manifest, seen)
            seen.add(member.name)
            self._write(disk, member, manifest.files[member.name].sha256, directory, made)
            self._skip_padding(member)
            member = self._next()
        missing = sorted(set(manifest.files) - seen)
        if missing:
            raise _bad("'%s' is missing (%d of %d files)" % (missing[0], len(missing), len(manifest.files)))
        self._require_end()
        for path in reversed(made):
            sync(disk, path)

    @staticmethod
    def _require_expected(member: "_Member", manifest: Manifest, seen: Set[str]) -> None:
        if member.name in seen:
            raise _bad("'%s' is there twice" % member.name)
        if member.name not in manifest.files:
            raise _bad("'%s' is not a file of its manifest" % member.name)
        expected = manifest.files[member.name].bytes
        if member.size != expected:
            raise _bad("'%s' has %d bytes, not %d as its manifest says" % (member.name, member.size, expected))

    def _write(self, disk: Disk, member: "_Member", sha256: str, directory: Path, made: List[Path]) -> None:
        path = directory / member.name
        for parent in reversed(path.relative_to(directory).parents):
            if directory / parent not in made:
                disk.mkdir(directory / parent)
                made.append(directory / parent)
        digest = hashlib.sha256()
        with opened(disk, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            left = member.size
            while left:
                piece = self._content.exactly(min(left, _PIECE))
                digest.update(piece)
                disk.write(descriptor, piece)
                left -= len(piece)
            if digest.hexdigest() != sha256:
                raise _bad("'%s' is not the file that its manifest names: its SHA-256 differs" % member.name)
            disk.fsync(descriptor)

    def _next(self) -> Optional["_Member"]:
        block = self._content.exactly(_BLOCK)
        return None if not any(block) else _member(block)

    def _skip_padding(self, member: "_Member") -> None:
        if any(self._content.exactly(-member.size % _BLOCK)):
            raise _bad("something lies behind '%s'" % member.name)

    def _require_end(self) -> None:
        """Nothing but zeros in the end, and nothing behind."""
        padding = self._content.at_most(_MOST_PADDING + 1)
        if any(padding) or len(padding) > _MOST_PADDING or not self._content.ended():
            raise _bad("something lies behind its last member")


class _Member(NamedTuple):
    name: str
    size: int


class _Inflated:
    """The content of a gzip file, never more of it in memory than was asked for."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._stream = zlib.decompressobj(_GZIP)

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        content = self.at_most(size)
        if len(content) < size:
            raise _bad("it is truncated")
        return content

    def at_most(self, size: int) -> bytes:
        """The next ``size`` bytes, or what is left."""
        found = b""
        while len(found) < size and not self._stream.eof:
            compressed = self._stream.unconsumed_tail or self._read(_PIECE)
            try:
                piece = self._stream.decompress(compressed, size - len(found))
            except zlib.error as error:
                raise _bad("it is not what gzip made (%s)" % error) from error
            if not compressed and not piece:
                raise _bad("it is truncated")
            found += piece
        return found

    def ended(self) -> bool:
        """Whether this is the end of the gzip stream and of the file."""
        return not self.at_most(1) and not self._stream.unused_data and not self._read(1)


def _member(block: bytes) -> _Member:
    """What a USTAR header says; only a regular file may."""
    name = _text(block[:100])
    prefix = _text(block[345:500])
    name = prefix + "/" + name if prefix else name
    shown = "'%s'" % name[:100]
    if block[257:265] != b"ustar\x0000":
        raise _bad("the header of %s is not USTAR" % shown)
    if _octal(block[148:156], shown) != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise _bad("the header of %s is damaged" % shown)
    kind = block[156:157]
    if kind != b"0":
        raise _bad("%s is %s; a bundle has regular files only" % (shown, _KINDS.get(kind, "of type %r" % kind)))
    return _Member(name, _octal(block[124:136], shown))


def _text(field: bytes) -> str:
    try:
        return field.split(b"\0")[0].decode("ascii")
    except UnicodeDecodeError as error:
        raise _bad("a member's name is not ASCII: %r" % field[:100]) from error


def _octal(field: bytes, shown: str) -> int:
    digits = field.rstrip(b" \0").lstrip(b" ")
    if not digits or digits.strip(b"01234567"):
        raise _bad("the header of %s is damaged" % shown)
    return int(digits, 8)


def _bad(what: str) -> AgentError:
    return AgentError(ErrorKind.BAD_BUNDLE, "the archive is no bundle: %s" % what)
