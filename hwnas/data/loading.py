"""Opening a data set by its name or its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.data import cifar10, fashion_mnist
from hwnas.data.cifar10 import cifar10_source
from hwnas.data.dataset import Dataset
from hwnas.data.detection import is_coco
from hwnas.data.fashion_mnist import load_fashion_mnist
from hwnas.data.folder import folder_source
from hwnas.data.parquet import parquet_files, parquet_source
from hwnas.data.source import Source
from hwnas.data.splits import SplitConfig
from hwnas.data.store import load_stored
from hwnas.errors import UnknownNameError, UserError
from hwnas.progress import Progress, Silent

NAMES = (fashion_mnist.NAME, cifar10.NAME)


def load_dataset(
    source: str | Path,
    *,
    root: Path | None = None,
    download: bool = False,
    splits: SplitConfig | None = None,
    storage_size: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open a data set; its splits are read when first asked for.

    Images of a path and of CIFAR-10 are decoded once into the cache directory (``$HWNAS_CACHE``) and found there by
    the next call, until a file or an option changes.

    Args:
        source: ``fashion-mnist``, ``cifar10``, a folder of class folders, a parquet file, or a folder of them.
        root: where the files of a named data set lie, if not in the cache directory or a known place.
        download: fetch the files of a named data set that are nowhere.
        splits: how images are withheld where the data set has no validation or test split.
        storage_size: side in pixels at which the images of a path are stored; by default their median short side, at
            most 256.
        image_column, label_column: columns of parquet files, where they are not plain to see.

    Raises:
        UnknownNameError: ``source`` is neither a known name nor an existing path.
        UserError: it is a detection data set, an option does not apply, a file is missing or damaged (it is named, with
            the row), there is only one class, a split is empty, a label is wrong, a download failed.
    """
    progress = progress or Silent()
    if storage_size is not None and storage_size < 1:
        raise UserError(f"The storage size must be at least 1 pixel, not {storage_size}.")
    if source in NAMES:
        options = {"storage size": storage_size, "image column": image_column, "label column": label_column}
        _refuse(f"the data set {source}", options)
        if source == fashion_mnist.NAME:
            _refuse("Fashion-MNIST, whose splits are fixed", {"splits": splits})
            return load_fashion_mnist(root, download=download, progress=progress)
        found = cifar10_source(root, download=download, progress=progress)
        return load_stored(found, splits or SplitConfig(), progress)
    _refuse(f"the path {source}", {"data root": root, "download": download or None})
    path = Path(source).expanduser()
    if not path.exists():
        known = ", ".join(NAMES)
        raise UnknownNameError(f"There is neither a data set nor a path '{source}'; give {known} or an existing path.")
    found = source_of(path, storage_size, image_column, label_column)
    return load_stored(found, splits or SplitConfig(), progress)


def source_of(
    path: Path, storage_size: int | None = None, image_column: str | None = None, label_column: str | None = None
) -> Source:
    """The data set that lies at a path, not yet decoded; arguments as for :func:`load_dataset`.

    Raises:
        UserError: nothing that can be read lies there, it is a detection data set, or an option does not apply.
    """
    if parquet_files(path):
        return parquet_source(path, storage_size, image_column, label_column)
    if not path.is_dir():
        raise UserError(f"{path} is no parquet file; give a *.parquet file or a folder.")
    if is_coco(path):
        raise UserError(
            f"{path} is a detection data set, and only data of classifiers is of use here; give a folder of class "
            "folders or a parquet file."
        )
    _refuse(f"the folder {path}", {"image column": image_column, "label column": label_column})
    return folder_source(path, storage_size)


def _refuse(subject: str, options: dict[str, Any]) -> None:
    """Refuse options that would do nothing."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"The option '{name}' does not apply to {subject}; leave it out.")
