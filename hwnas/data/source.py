"""What a data set on disk looks like before it is decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.decoding import Pixels
from hwnas.data.splits import Indices, SplitPlan
from hwnas.errors import UserError

SPLIT_OF_NAME = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Part:
    """Images that belong together: int64 labels [N], and the images uint8 [3, side, side] in that order."""

    labels: Indices
    images: Callable[[], Iterator[Pixels]]


@dataclass(frozen=True)
class Contents:
    """What a source holds: ``parts`` are named ``train`` (always), ``validation`` and ``test``.

    ``plan`` says which image is of which split, where the labels are no classes by which that could be decided.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    side: int
    plan: SplitPlan | None = None


@dataclass(frozen=True)
class Source:
    """A data set found on disk.

    Attributes:
        name: of the data set.
        where: its place, for messages.
        identity: changes whenever the files or the way they are read change.
        open: lists the images and reads the labels.
    """

    name: str
    where: str
    identity: str
    open: Callable[[], Contents]


def identity_of(files: Iterable[Path], options: Mapping[str, Any]) -> str:
    """SHA-256 over the files' paths, sizes and times of change, and the options that they are read with."""
    found = [(str(file.absolute()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps([found, options]).encode()).hexdigest()


def checked_contents(contents: Contents, where: str) -> Contents:
    """Return ``contents``.

    Raises:
        UserError: a split is empty, or the training images are of one class only.
    """
    for name, part in contents.parts.items():
        if not len(part.labels):
            raise UserError(f"{where}: the {name} split holds no image; add images or remove the split.")
    classes = {int(label) for label in contents.parts["train"].labels}
    if len(classes) < 2:
        only = contents.class_names[classes.pop()]
        raise UserError(f"{where}: all training images are of one class, '{only}'; a classifier needs at least two.")
    return contents
