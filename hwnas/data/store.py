"""Decoded images on disk: made once from a source, then opened at once and read as they are needed.

A store is a directory with ``manifest.json`` and, for each split, ``<split>.pixels.npy`` and ``<split>.labels.npy``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from hwnas.data.cache import cache_directory
from hwnas.data.dataset import Dataset, ImageSet, Triple
from hwnas.data.decoding import Pixels
from hwnas.data.source import Contents, Source
from hwnas.data.splits import SplitConfig, SplitPlan, plan_splits
from hwnas.errors import BadFileError
from hwnas.files import Document, explain_os_errors, fsync_directory, read_model, write_json
from hwnas.progress import Progress

CHANNELS = 3


class Manifest(Document):
    """What a store holds.

    Attributes:
        sizes: images of each split.
        side: height and width of all images in pixels.
        recalibration: sorted positions in the training split.
        mean, std, fingerprint, repeated: as in :class:`hwnas.data.Dataset`.
    """

    name: str
    class_names: tuple[str, ...]
    side: int
    sizes: dict[str, int]
    recalibration: tuple[int, ...]
    mean: Triple
    std: Triple
    fingerprint: str
    repeated: dict[str, int]


def load_stored(source: Source, config: SplitConfig, progress: Progress) -> Dataset:
    """Open the store of a source, making it first if there is none; two processes may do so at once.

    Raises:
        UserError: the source is bad (see its module), the disk is full, or the store is damaged.
    """
    key = hashlib.sha256(json.dumps([1, source.identity, config.model_dump()]).encode()).hexdigest()[:16]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", source.name)[:40]
    directory = cache_directory() / "decoded" / f"{slug}-{key}"
    if not directory.exists():
        with explain_os_errors(directory):
            directory.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(directory.parent / f".{directory.name}.lock"):
                if not directory.exists():
                    _make(source, config, directory, progress)
    return _open(directory)


def _open(directory: Path) -> Dataset:
    manifest = read_model(directory / "manifest.json", Manifest, what="manifest")
    readers = {split: partial(_read, directory, split, manifest) for split in manifest.sizes}
    return Dataset(
        name=manifest.name,
        class_names=manifest.class_names,
        mean=manifest.mean,
        std=manifest.std,
        fingerprint=manifest.fingerprint,
        readers={**readers, "recalibration": partial(_read_recalibration, directory, manifest)},
        repeated=manifest.repeated,
    )


def _read(directory: Path, split: str, manifest: Manifest) -> ImageSet:
    """Map a split into memory, so that a set larger than the memory can be used."""
    size, side = manifest.sizes[split], manifest.side
    pixels = _load_array(directory / f"{split}.pixels.npy", (size, CHANNELS, side, side), np.uint8)
    labels = _load_array(directory / f"{split}.labels.npy", (size,), np.int64)
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels))


def _read_recalibration(directory: Path, manifest: Manifest) -> ImageSet:
    train = _read(directory, "train", manifest)
    positions = torch.tensor(manifest.recalibration)
    return ImageSet(train.pixels[positions], train.labels[positions])


def _load_array(path: Path, shape: tuple[int, ...], dtype: type) -> NDArray[np.generic]:
    """Map an array copy-on-write: torch asks for writable memory, the file stays as it is."""
    mend = f"delete the directory {path.parent} and it is made anew"
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadFileError(f"{path} is damaged ({error}); {mend}.") from error
    if array.shape != shape or array.dtype != dtype:
        raise BadFileError(f"{path} holds {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}; {mend}.")
    return array


def _make(source: Source, config: SplitConfig, directory: Path, progress: Progress) -> None:
    """Decode everything into a directory beside ``directory``, then rename it."""
    contents = source.open()
    labels = {name: part.labels for name, part in contents.parts.items()}
    plan = contents.plan or plan_splits(labels, contents.class_names, config, where=source.where)
    staging = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(staging, ignore_errors=True)  # a killed process left it: we hold the lock
    staging.mkdir()
    progress.start(f"Decoding {source.name}", sum(map(len, labels.values())), unit="images")
    try:
        _write(contents, plan, source.name, staging, progress)
        staging.replace(directory)
        fsync_directory(directory.parent)
    finally:
        progress.finish()
        shutil.rmtree(staging, ignore_errors=True)


def _write(contents: Contents, plan: SplitPlan, name: str, staging: Path, progress: Progress) -> None:
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                _SplitWriter(staging / f"{split}.pixels.npy", len(selection.indices), contents.side)
            )
            for split, selection in plan.selections.items()
        }
        for split, image in _dealt(contents, plan):
            progress.advance()
            writers[split].add(image)
    sizes = {}
    digest = hashlib.sha256(json.dumps(contents.class_names).encode())
    for split in sorted(plan.selections):
        selection = plan.selections[split]
        labels = contents.parts[selection.part].labels[selection.indices]
        with (staging / f"{split}.labels.npy").open("wb") as file:
            np.save(file, labels, allow_pickle=False)
            _flush(file)
        sizes[split] = len(labels)
        digest.update(split.encode() + labels.astype("<i8").tobytes() + writers[split].digest())
    digest.update(plan.recalibration.astype("<i8").tobytes())
    known = set(writers["train"].image_hashes)
    mean, std = writers["train"].statistics()
    manifest = Manifest(
        name=name,
        class_names=contents.class_names,
        side=contents.side,
        sizes=sizes,
        recalibration=tuple(plan.recalibration.tolist()),
        mean=mean,
        std=std,
        fingerprint=digest.hexdigest(),
        repeated={s: sum(h in known for h in writers[s].image_hashes) for s in ("validation", "test")},
    )
    write_json(staging / "manifest.json", manifest)


def _dealt(contents: Contents, plan: SplitPlan) -> Iterator[tuple[str, Pixels]]:
    """Every image once, with the split that it belongs to; within a split in the order of its selection."""
    for name, part in contents.parts.items():
        owner: dict[int, str] = {}
        for split, selection in plan.selections.items():
            if selection.part == name:
                owner.update(dict.fromkeys(selection.indices.tolist(), split))
        for position, image in enumerate(part.images()):
            yield owner[position], image


class _SplitWriter:
    """Writes images one after the other as one .npy array [N, 3, side, side] and gathers what is told of them.

    A plain file, not a memory map: a full disk is then an error and not a bus error.
    """

    def __init__(self, path: Path, size: int, side: int) -> None:
        self.image_hashes: list[bytes] = []
        self._header = {"descr": "|u1", "fortran_order": False, "shape": (size, CHANNELS, side, side)}
        self._path = path
        self._digest = hashlib.sha256()
        self._sum = np.zeros(CHANNELS, np.int64)
        self._sum_of_squares = np.zeros(CHANNELS, np.int64)
        self._values = size * side * side

    def __enter__(self) -> _SplitWriter:
        self._file: BinaryIO = self._path.open("wb")
        np.lib.format.write_array_header_1_0(self._file, self._header)
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            _flush(self._file)

    def add(self, image: Pixels) -> None:
        """Append one image, uint8 [3, side, side]."""
        content = image.tobytes()
        self._file.write(content)
        self._digest.update(content)
        self.image_hashes.append(hashlib.blake2b(content, digest_size=16).digest())
        values = image.reshape(CHANNELS, -1).astype(np.int64)
        self._sum += values.sum(axis=1)
        self._sum_of_squares += np.square(values).sum(axis=1)

    def digest(self) -> bytes:
        """SHA-256 over all images."""
        return self._digest.digest()

    def statistics(self) -> tuple[Triple, Triple]:
        """Mean and standard deviation per channel, pixels scaled to 0..1; a constant channel gets the deviation 1."""
        mean = self._sum / self._values / 255
        variance = self._sum_of_squares / self._values / 255**2 - mean**2
        std = np.sqrt(np.where(variance > 1e-12, variance, 1.0))
        return _triple(mean), _triple(std)


def _flush(file: BinaryIO) -> None:
    """Have the content on the disk before the rename that declares it whole."""
    file.flush()
    os.fsync(file.fileno())


def _triple(values: NDArray[np.float64]) -> Triple:
    red, green, blue = values.tolist()
    return red, green, blue
