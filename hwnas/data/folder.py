"""Folders of class folders: ``root/<class>/*.jpg`` or ``root/<split>/<class>/*.jpg``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hwnas.data.decoding import Encoded, decode_all, default_side
from hwnas.data.source import SPLIT_OF_NAME, Contents, Part, Source, checked_contents, identity_of
from hwnas.errors import UserError
from hwnas.files import read_bytes

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
_HEADERS_READ = 256

# Image files by class name.
Listing = Mapping[str, Sequence[Path]]


def folder_source(root: Path, storage_size: int | None) -> Source:
    """List a folder of class folders.

    The folder is taken as split folders when every folder in it bears a split's name (train, val, test, …), else its
    folders are the classes.  Files that are not images by their suffix, and hidden ones, are passed over.

    Args:
        storage_size: side in pixels at which images are stored; ``None`` takes their median short side, at most 256.

    Raises:
        UserError: there are no class folders, a class folder holds no image, or a split has a class
            that training lacks.
    """
    listings = {split: _list_classes(folder) for split, folder in _split_folders(root).items()}
    class_names = tuple(listings["train"])
    for split, listing in listings.items():
        for name in listing:
            if name not in class_names:
                raise UserError(f"{root}: the {split} split has a class '{name}' that the training split lacks.")
    files = [file for listing in listings.values() for paths in listing.values() for file in paths]
    identity = identity_of(files, {"side": storage_size})
    opener = partial(_open, listings, class_names, storage_size, str(root))
    return Source(root.resolve().name, str(root), identity, opener)


def _open(
    listings: Mapping[str, Listing], class_names: tuple[str, ...], storage_size: int | None, where: str
) -> Contents:
    side = storage_size or _choose_side(listings["train"])
    parts = {split: _as_part(listing, class_names, side) for split, listing in listings.items()}
    return checked_contents(Contents(class_names, parts, side), where)


def _as_part(listing: Listing, class_names: tuple[str, ...], side: int) -> Part:
    files = [file for paths in listing.values() for file in paths]
    numbers = np.array([class_names.index(name) for name in listing], dtype=np.int64)
    labels = np.repeat(numbers, [len(paths) for paths in listing.values()])
    return Part(labels, lambda: decode_all(_read(files), side))


def _read(files: Sequence[Path]) -> Iterator[Encoded]:
    return (Encoded(str(file), read_bytes(file, what="image")) for file in files)


def _choose_side(listing: Listing) -> int:
    files = [file for paths in listing.values() for file in paths]
    return default_side(list(_read(files[:: -(-len(files) // _HEADERS_READ)])))


def _split_folders(root: Path) -> Mapping[str, Path]:
    """The folder of each split; a folder without splits is all training."""
    folders = _folders(root)
    if not folders:
        raise UserError(f"{root} holds no class folders; expected are {root}/<class>/<image>.")
    if not all(folder.name.lower() in SPLIT_OF_NAME for folder in folders):
        return {"train": root}
    splits: dict[str, Path] = {}
    for folder in folders:
        split = SPLIT_OF_NAME[folder.name.lower()]
        if split in splits:
            raise UserError(f"{folder} and {splits[split]} are both the {split} split; keep one of them.")
        splits[split] = folder
    if "train" not in splits:
        raise UserError(f"{root} holds {', '.join(f.name for f in folders)} but no folder 'train'; add it.")
    return splits


def _list_classes(folder: Path) -> Listing:
    classes = {found.name: _images(found) for found in _folders(folder)}
    if not classes:
        raise UserError(f"{folder} holds no class folders; expected are {folder}/<class>/<image>.")
    for name, files in classes.items():
        if not files:
            raise UserError(f"{folder / name} holds no image; add images ({', '.join(sorted(SUFFIXES))}) or remove it.")
    return classes


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(found for found in folder.iterdir() if found.is_dir() and not found.name.startswith("."))
    except PermissionError as error:
        raise _unreadable(error) from error


def _images(folder: Path) -> list[Path]:
    """All image files below ``folder``."""
    found = [
        Path(directory) / name
        for directory, _, names in os.walk(folder, onerror=_refuse_unreadable)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
    ]
    return sorted(found)


def _refuse_unreadable(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(f"The folder {error.filename} cannot be read ({error.strerror}); check its permissions.")
