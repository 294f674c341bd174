"""CIFAR-10 (Krizhevsky 2009) from its official binary archive, or from parquet files of it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hwnas.data.cache import cache_directory
from hwnas.data.decoding import Pixels
from hwnas.data.download import RemoteFile, fetch
from hwnas.data.parquet import parquet_files, parquet_source
from hwnas.data.source import Contents, Part, Source, checked_contents, identity_of
from hwnas.errors import BadFileError, UserError
from hwnas.files import sha256_of
from hwnas.progress import Progress

NAME = "cifar10"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
# The archive "suitable for C programs": the one without pickles.
ARCHIVE = RemoteFile(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
)
_MEMBERS = {
    "train": [f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)],
    "test": ["cifar-10-batches-bin/test_batch.bin"],
}
_RECORDS = 10_000
_RECORD = 1 + 3 * SIDE * SIDE


def cifar10_source(root: Path | None, *, download: bool, progress: Progress) -> Source:
    """Find CIFAR-10.

    Args:
        root: directory with the official binary archive, or with ``train*.parquet`` and ``test*.parquet``; without it
            an earlier download is used.
        download: fetch the archive if it is nowhere.

    Raises:
        UserError: there is nothing to read, or the download failed.
    """
    directory = root or cache_directory() / NAME
    archive = directory / ARCHIVE.name
    if archive.is_file():
        return _archive_source(archive)
    if root is not None:
        if not parquet_files(root):
            raise BadFileError(f"{root} holds neither {ARCHIVE.name} nor parquet files; give the directory of either.")
        return parquet_source(root, SIDE, name=NAME)
    if not download:
        raise UserError(
            "CIFAR-10 is not on this machine; allow the download of 170 MB (--download), or name the directory of its "
            "archive or parquet files (--data-root)."
        )
    return _archive_source(fetch(ARCHIVE, directory, progress))


def _archive_source(archive: Path) -> Source:
    archive = archive.resolve()
    identity = identity_of([archive], {})
    return Source(NAME, str(archive), identity, partial(_open, archive))


def _open(archive: Path) -> Contents:
    if sha256_of(archive) != ARCHIVE.sha256:
        raise BadFileError(
            f"{archive} is not the official archive (its SHA-256 is another); delete and fetch it again."
        )
    parts = {}
    for split, members in _MEMBERS.items():
        records = _read_records(archive, members)
        pixels = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
        parts[split] = Part(records[:, 0].astype(np.int64), partial(_each, pixels))
    return checked_contents(Contents(CLASS_NAMES, parts, SIDE), str(archive))


def _each(pixels: Pixels) -> Iterator[Pixels]:
    return iter(pixels)


def _read_records(archive: Path, members: Sequence[str]) -> Pixels:
    """uint8 [N, 3073]: the label, then the red, green and blue plane of each image."""
    blocks = []
    with tarfile.open(archive, "r:gz") as opened:
        for member in members:
            file = opened.extractfile(member)
            content = file.read() if file else b""
            if len(content) != _RECORDS * _RECORD:
                raise BadFileError(
                    f"{archive}: {member} has {len(content)} bytes, not {_RECORDS * _RECORD}; fetch it again."
                )
            blocks.append(np.frombuffer(content, np.uint8).reshape(-1, _RECORD))
    return np.concatenate(blocks)
