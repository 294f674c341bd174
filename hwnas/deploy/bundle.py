"""Bundles: what ``flash`` sends, as a directory and as one archive of the same files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hwnas.deploy.archive import SUFFIX, manifest_first, write_archive
from hwnas.deploy.canonical import canonical
from hwnas.deploy.content import BundleContent
from hwnas.deploy.manifest import MANIFEST_FILE, Manifest
from hwnas.deploy.signing import BUNDLE_TYPE, sign
from hwnas.errors import UserError
from hwnas.files import explain_os_errors, fsync_directory


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        path: its directory or archive.
        payload: the manifest's bytes as they were signed.
        envelope: the bytes of ``manifest.dsse.json``.
    """

    path: Path
    manifest: Manifest
    payload: bytes
    envelope: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, which names those of all files; the bundle's slot has it as its name."""
        return hashlib.sha256(self.payload).hexdigest()


def write_bundle(
    content: BundleContent, version: int | None, directory: Path, keys: Sequence[Ed25519PrivateKey]
) -> Bundle:
    """Write ``NAME-vN/`` and ``NAME-vN.tar.gz`` below ``directory``; equal arguments give equal bytes.

    Args:
        version: ``None``: the next one after those of that name in ``directory``.
        keys: each signs.

    Raises:
        UserError: that version is there already with another content, or the parts do not go together.
    """
    manifest = content.manifest(version or next_version(directory, content.name))
    payload = canonical(manifest)
    envelope = sign(payload, BUNDLE_TYPE, keys)
    path, files = directory / manifest.stem, {MANIFEST_FILE: envelope, **content.files}
    if path.exists():
        _require_unchanged(path, files)
    else:
        _write_directory(path, files)
    bundle = Bundle(path, manifest, payload, envelope)
    write_bundle_archive(bundle, archive_path(path))
    return bundle


def write_bundle_archive(bundle: Bundle, path: Path) -> None:
    """Write the archive of a bundle's directory."""
    names = manifest_first((MANIFEST_FILE, *bundle.manifest.files))
    write_archive(((name, bundle.path / name) for name in names), path)


def archive_path(directory: Path) -> Path:
    """Where the archive of a bundle's directory lies."""
    return directory.with_name(directory.name + SUFFIX)


def next_version(directory: Path, name: str) -> int:
    """One more than the newest bundle of a name in a directory; 1 where there is none."""
    return max(versions_in(directory, name).values(), default=0) + 1


def versions_in(directory: Path, name: str) -> dict[Path, int]:
    """The bundles of a name in a directory, directories and archives, and the version of each."""
    pattern = re.compile(rf"{re.escape(name)}-v([1-9][0-9]*)({re.escape(SUFFIX)})?")
    entries = directory.iterdir() if directory.is_dir() else ()
    return {entry: int(match[1]) for entry in entries if (match := pattern.fullmatch(entry.name))}


def _require_unchanged(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        if not (path / name).is_file() or (path / name).read_bytes() != content:
            raise UserError(
                f"{path} is there already, and its {name} is another; a version never changes, so give a new one."
            )


def _write_directory(path: Path, files: dict[str, bytes]) -> None:
    """Write a directory whole or not at all."""
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            for name, content in files.items():
                file = temporary / name
                file.parent.mkdir(parents=True, exist_ok=True)
                _write_durably(file, content)
            for directory in (temporary, *(inner for inner in temporary.rglob("*") if inner.is_dir())):
                directory.chmod(0o755)
                fsync_directory(directory)
            temporary.rename(path)
            fsync_directory(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_durably(file: Path, content: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    file.chmod(0o644)
