"""Blobs on the device's disk, addressed by their SHA-256, received in chunks and resumable."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path

from .protocol import AgentError, ErrorKind

_SHA256 = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """A private directory of blobs; a blob is there under its name only once its content was checked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def received(self, sha256: str) -> int:
        """Bytes of the blob that have arrived, counting an unfinished upload."""
        for path in (self._path(sha256), self._partial(sha256)):
            if path.exists():
                return path.stat().st_size
        return 0

    def has(self, sha256: str) -> bool:
        """Whether the whole blob is here."""
        return self._path(sha256).exists()

    def put(self, sha256: str, offset: int, size: int, data: str) -> int:
        """Take the chunk ``data`` (base64) at ``offset`` of a blob of ``size`` bytes; give the bytes received so far.

        A chunk that was received before is taken again silently.

        Raises:
            AgentError: ``corrupt-blob`` when the whole content has another hash (it is thrown away);
                ``bad-request`` when the chunk leaves a gap, exceeds the size or is not base64.
        """
        if self.has(sha256):
            return size
        try:
            chunk = base64.b64decode(data, validate=True)
        except (ValueError, binascii.Error) as error:
            raise AgentError(ErrorKind.BAD_REQUEST, "the chunk is not base64 (%s)" % error) from error
        partial = self._partial(sha256)
        if offset > self.received(sha256) or offset + len(chunk) > size:
            partial.unlink(missing_ok=True)
            raise AgentError(ErrorKind.BAD_REQUEST, "chunk at %d does not fit; send the blob anew" % offset)
        with partial.open("r+b" if partial.exists() else "w+b") as file:
            file.seek(offset)
            file.write(chunk)
        arrived = partial.stat().st_size
        if arrived >= size:
            self._admit(sha256)
        return arrived

    def read(self, sha256: str) -> bytes:
        """A whole blob.

        Raises:
            AgentError: ``unknown-blob`` when it is not here, ``corrupt-blob`` when the disk gave back something else.
        """
        path = self._path(sha256)
        if not path.exists():
            raise AgentError(ErrorKind.UNKNOWN_BLOB, "blob %s is not on the device; send it first" % sha256[:12])
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            path.unlink()
            raise AgentError(ErrorKind.CORRUPT_BLOB, "blob %s changed on the disk; send it anew" % sha256[:12])
        return content

    def drop(self, sha256: str) -> None:
        """Forget a blob, whole or partial."""
        self._path(sha256).unlink(missing_ok=True)
        self._partial(sha256).unlink(missing_ok=True)

    def _admit(self, sha256: str) -> None:
        partial = self._partial(sha256)
        found = hashlib.sha256(partial.read_bytes()).hexdigest()
        if found != sha256:
            partial.unlink()
            raise AgentError(
                ErrorKind.CORRUPT_BLOB,
                "the content received hashes to %s, not to %s; send it anew" % (found[:12], sha256[:12]),
            )
        partial.replace(self._path(sha256))

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise AgentError(ErrorKind.BAD_REQUEST, "a blob is named by 64 hexadecimal digits")
        return self._directory / sha256

    def _partial(self, sha256: str) -> Path:
        return self._path(sha256).with_suffix(".part")
