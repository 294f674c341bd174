"""Fashion-MNIST (Xiao et al. 2017, MIT licence): the data set that hwnas carries.

A sample inside the package serves validation, recalibration and test; the training images come from the Debian
package ``dataset-fashion-mnist``, a directory with the four official files, or a download.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import Field

from hwnas.data.cache import cache_directory
from hwnas.data.dataset import Dataset, ImageSet
from hwnas.data.download import RemoteFile, fetch
from hwnas.data.splits import Indices, stratified_sample
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, read_bytes, read_model
from hwnas.progress import Progress

NAME = "fashion-mnist"
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIDE = 28
DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded"
# Over the 55,000 training images, pixels scaled to 0..1.
MEAN = 0.285943
STD = 0.352888

_OFFICIAL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_MIRROR = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"


@dataclass(frozen=True)
class IdxFile:
    """One of the four official files: how it is downloaded, and the SHA-256 of its uncompressed content."""

    remote: RemoteFile
    content_sha256: str


def _idx_file(name: str, size: int, sha256: str, content_sha256: str) -> IdxFile:
    urls = (f"{_OFFICIAL}/{name}", f"{_MIRROR}/{name}")
    return IdxFile(RemoteFile(name, urls, sha256, size), content_sha256)


TRAIN_IMAGES = _idx_file(
    "train-images-idx3-ubyte.gz",
    26_421_880,
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
)
TRAIN_LABELS = _idx_file(
    "train-labels-idx1-ubyte.gz",
    29_515,
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
)
TEST_IMAGES = _idx_file(
    "t10k-images-idx3-ubyte.gz",
    4_422_102,
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
)
TEST_LABELS = _idx_file(
    "t10k-labels-idx1-ubyte.gz",
    5_148,
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
IDX_FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

TRAIN_SIZE, VALIDATION_PER_CLASS, RECALIBRATION_PER_CLASS, TEST_SIZE = 60_000, 500, 200, 10_000
TrainIndex = Annotated[int, Field(ge=0, lt=TRAIN_SIZE)]


class EmbeddedRecord(Document):
    """``embedded/fashion_mnist.json``: what the sample beside it is.

    Attributes:
        sample_sha256: of ``fashion_mnist.parquet``.
        validation, recalibration: sorted positions in the official training set.
    """

    sample_sha256: str
    validation: list[TrainIndex]
    recalibration: list[TrainIndex]


def load_fashion_mnist(root: Path | None, *, download: bool, progress: Progress) -> Dataset:
    """Open Fashion-MNIST.

    Args:
        root: directory with the four official files; without it the Debian package or an earlier download is used.
        download: fetch the official files if they are nowhere.

    Raises:
        UserError: ``root`` lacks a file, or the download failed.
    """
    if root is not None:
        _require_files(root)
    full = root or _find_full()
    if full is None and download:
        full = cache_directory() / NAME
        for file in IDX_FILES:
            fetch(file.remote, full, progress)
    record = embedded_record()
    embedded = {name: partial(_read_embedded, name) for name in ("validation", "recalibration", "test")}
    return Dataset(
        name=NAME,
        class_names=CLASS_NAMES,
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
        fingerprint=_fingerprint(record),
        readers={"train": partial(_read_train, full), **embedded},
    )


def draw_splits(labels: Indices) -> Mapping[str, Indices]:
    """Draw the withheld and the recalibration images: 500 and then 200 of the others a class, seed 0.

    Args:
        labels: int64 [60000], those of the official training set.

    Returns:
        Sorted positions by split: ``validation``, ``recalibration``, ``train`` (all that are not withheld).
    """
    rng = np.random.default_rng(0)
    classes = len(CLASS_NAMES)
    validation = stratified_sample(labels, [VALIDATION_PER_CLASS] * classes, rng)
    train = np.setdiff1d(np.arange(len(labels)), validation)
    drawn = stratified_sample(labels[train], [RECALIBRATION_PER_CLASS] * classes, rng)
    return {"validation": validation, "recalibration": train[drawn], "train": train}


def read_official(directory: Path, images: IdxFile, labels: IdxFile) -> ImageSet:
    """Read one pair of the official files, whole and in its order.

    Raises:
        BadFileError: a file is missing, damaged, or holds something else.
    """
    pixels = np.frombuffer(_read_idx(directory, images), np.uint8, offset=16).reshape(-1, 1, SIDE, SIDE)
    classes = np.frombuffer(_read_idx(directory, labels), np.uint8, offset=8).astype(np.int64)
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(classes))


@cache
def embedded_record() -> EmbeddedRecord:
    """Read and check the record of the embedded sample."""
    return read_model(EMBEDDED_DIRECTORY / "fashion_mnist.json", EmbeddedRecord, what="record of the embedded sample")


def _require_files(root: Path) -> None:
    for file in IDX_FILES:
        if not (root / file.remote.name).is_file():
            raise BadFileError(f"{root} holds no {file.remote.name}; give the directory of the four official files.")


def _find_full() -> Path | None:
    for directory in (DEBIAN_DIRECTORY, cache_directory() / NAME):
        if all((directory / file.remote.name).is_file() for file in IDX_FILES):
            return directory
    return None


def _read_train(directory: Path | None) -> ImageSet:
    if directory is None:
        raise UserError(
            "The training images of Fashion-MNIST are not on this machine; install the Debian package "
            "dataset-fashion-mnist or allow the download of 30 MB (--download)."
        )
    official = read_official(directory, TRAIN_IMAGES, TRAIN_LABELS)
    withheld = torch.tensor(embedded_record().validation)
    kept = torch.ones(len(official), dtype=torch.bool)
    kept[withheld] = False
    return ImageSet(official.pixels[kept], official.labels[kept])


def _read_embedded(split: str) -> ImageSet:
    path = EMBEDDED_DIRECTORY / "fashion_mnist.parquet"
    content = read_bytes(path, what="embedded sample")
    if hashlib.sha256(content).hexdigest() != embedded_record().sample_sha256:
        raise BadFileError(f"The embedded sample {path} is damaged (its SHA-256 is another); install hwnas again.")
    table = parquet.read_table(io.BytesIO(content), filters=[("split", "=", split)], columns=["image", "label"])
    return ImageSet(
        torch.from_numpy(_fixed_size_bytes(table["image"])).view(-1, 1, SIDE, SIDE),
        torch.from_numpy(table["label"].to_numpy().astype(np.int64)),
    )


def _fixed_size_bytes(column: object) -> NDArray[np.uint8]:
    """The content of a fixed-size binary column without a Python object a row."""
    array = column.combine_chunks()  # type: ignore[attr-defined]
    width = array.type.byte_width
    start = array.offset * width
    return np.frombuffer(array.buffers()[1], np.uint8)[start : start + len(array) * width].copy()


def _read_idx(directory: Path, file: IdxFile) -> bytearray:
    """Uncompress one official file and compare it with its known hash."""
    path = directory / file.remote.name
    try:
        content = gzip.decompress(read_bytes(path))
    except (OSError, EOFError, zlib.error) as error:
        raise BadFileError(f"{path} is no whole gzip file ({error}); delete it and fetch it again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.content_sha256:
        raise BadFileError(
            f"{path} does not hold the official content (SHA-256 {found[:12]}… for {file.content_sha256[:12]}…); "
            "delete it and fetch it again."
        )
    return bytearray(content)


def _fingerprint(record: EmbeddedRecord) -> str:
    content = {
        "name": NAME,
        "classes": CLASS_NAMES,
        "files": [file.content_sha256 for file in IDX_FILES],
        "validation": record.validation,
        "recalibration": record.recalibration,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
