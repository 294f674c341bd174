"""Whether a bundle is what somebody trusted has signed, file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from hwnas.deploy.archive import BrokenArchiveError, Member, members
from hwnas.deploy.bundle import Bundle
from hwnas.deploy.errors import BadBundleError, UntrustedError
from hwnas.deploy.manifest import MANIFEST_FILE, FileEntry, Manifest
from hwnas.deploy.signing import BUNDLE_TYPE, PublicKey, verify
from hwnas.errors import BadFileError
from hwnas.files import describe, explain_os_errors

_MOST_ENVELOPE_BYTES = 1 << 20
_MOST_SURPLUS_BYTES = 1 << 20
"""Of entries that should not be there: beyond, an archive may be without end."""
_PIECE = 1 << 20


def verify_bundle(path: Path, trusted: Sequence[PublicKey], unpack_to: Path | None = None) -> Bundle:
    """Read a bundle and check every byte of it; nothing is believed before the signature fits.

    Args:
        path: its directory or archive.
        trusted: whose signatures count.
        unpack_to: an empty directory, to which the files are copied as they are checked.

    Raises:
        UntrustedError: the manifest is missing, changed, or signed by nobody trusted.
        BadBundleError: with all faults: of each file that is missing, too much, changed, or no regular file.
        BadFileError: there is nothing at ``path``.
    """
    if not path.exists():
        raise BadFileError(f"bundle {path} does not exist; check the path.")
    with explain_os_errors(unpack_to or path):
        arriving = members(path)
        try:
            first = next(arriving, None)
            envelope = _envelope(path, first)
        except BrokenArchiveError as error:
            raise BadBundleError(path, [str(error)]) from error
        payload = verify(envelope, BUNDLE_TYPE, trusted, f"bundle {path}")
        try:
            manifest = Manifest.model_validate_json(payload)
        except ValidationError as error:
            raise BadBundleError(path, [f"manifest: {describe(error)}"]) from error
        faults = list(_faults(arriving, manifest, unpack_to))
        if faults:
            raise BadBundleError(path, faults)
        if unpack_to is not None:
            (unpack_to / MANIFEST_FILE).write_bytes(envelope)
    return Bundle(unpack_to or path, manifest, payload, envelope)


def _envelope(path: Path, first: Member | None) -> bytes:
    if first is None or first.name != MANIFEST_FILE or first.kind is not None:
        raise UntrustedError(f"bundle {path} does not begin with {MANIFEST_FILE}, so nothing in it is signed.")
    content = first.stream.read(_MOST_ENVELOPE_BYTES + 1)
    if len(content) > _MOST_ENVELOPE_BYTES:
        raise UntrustedError(f"bundle {path}: {MANIFEST_FILE} is larger than any manifest.")
    return content


def _faults(arriving: Iterator[Member], manifest: Manifest, unpack_to: Path | None) -> Iterator[str]:
    awaited = dict(manifest.files)
    room = _MOST_SURPLUS_BYTES + sum(entry.bytes for entry in awaited.values())
    try:
        for member in arriving:
            room -= member.size
            if room < 0:
                yield f"{member.name}: more than the manifest announces, and not read any further"
                return
            entry = awaited.pop(member.name, None)
            fault = _fault(member, entry, manifest, unpack_to)
            if fault is not None:
                yield f"{member.name}: {fault}"
    except BrokenArchiveError as error:
        yield str(error)
    yield from (f"{name}: missing" for name in awaited)


def _fault(member: Member, entry: FileEntry | None, manifest: Manifest, unpack_to: Path | None) -> str | None:
    if entry is None:
        return "stands there twice" if member.name in manifest.files else "not in the manifest"
    if member.kind is not None:
        return f"{member.kind}, not a file"
    if member.size != entry.bytes:
        return f"{member.size} bytes instead of {entry.bytes}"
    copy = unpack_to / member.name if unpack_to is not None else None
    if _sha256(member.stream, copy) != entry.sha256:
        return "changed: its SHA-256 is another"
    return None


def _sha256(stream: IO[bytes], copy: Path | None) -> str:
    digest = hashlib.sha256()
    if copy is None:
        for piece in _pieces(stream):
            digest.update(piece)
        return digest.hexdigest()
    copy.parent.mkdir(parents=True, exist_ok=True)
    with copy.open("wb") as file:
        for piece in _pieces(stream):
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    while piece := stream.read(_PIECE):
        yield piece
