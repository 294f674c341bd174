"""Make the Fashion-MNIST sample that lies inside the package, from the four official files.

    python scripts/make_fashion_mnist_sample.py [DIRECTORY]

DIRECTORY holds the official files (default: where the Debian package dataset-fashion-mnist puts them).  The result
is the same for the same version of pyarrow; tests/data compares the sample with the full set image by image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as arrow
from pyarrow import parquet

from hwnas.data.dataset import ImageSet
from hwnas.data.fashion_mnist import (
    CLASS_NAMES,
    DEBIAN_DIRECTORY,
    EMBEDDED_DIRECTORY,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    EmbeddedRecord,
    draw_splits,
    read_official,
)
from hwnas.files import atomic_path, sha256_of, write_json


def main() -> None:
    """Write ``fashion_mnist.parquet`` and ``fashion_mnist.json``; print what the loader must know besides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=DEBIAN_DIRECTORY)
    directory = parser.parse_args().directory
    train = read_official(directory, TRAIN_IMAGES, TRAIN_LABELS)
    test = read_official(directory, TEST_IMAGES, TEST_LABELS)
    splits = draw_splits(train.labels.numpy())

    path = EMBEDDED_DIRECTORY / "fashion_mnist.parquet"
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, SCHEMA, **ENCODING) as writer:
        for split in ("validation", "recalibration"):
            writer.write_table(as_table(split, train, splits[split]))
        writer.write_table(as_table("test", test, np.arange(len(test))))
    record = EmbeddedRecord(
        sample_sha256=sha256_of(path),
        validation=splits["validation"].tolist(),
        recalibration=splits["recalibration"].tolist(),
    )
    write_json(EMBEDDED_DIRECTORY / "fashion_mnist.json", record)

    pixels = train.pixels.numpy()[splits["train"]] / 255
    print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {record.sample_sha256}")
    print(f"MEAN = {pixels.mean():.6f}\nSTD = {pixels.std():.6f}")


SCHEMA = arrow.schema(
    [
        ("split", arrow.string()),
        ("index", arrow.int32()),
        ("label", arrow.uint8()),
        ("image", arrow.binary(28 * 28)),
    ],
    metadata={"class_names": "\n".join(CLASS_NAMES), "image": "28 rows of 28 grey values", "license": "MIT"},
)
ENCODING = {
    "compression": "zstd",
    "compression_level": 22,
    "use_dictionary": ["split"],
    "data_page_size": 1 << 26,
}


def as_table(split: str, images: ImageSet, indices: np.ndarray) -> arrow.Table:
    """The images at ``indices`` as rows; one table becomes one row group, so that a split is read alone."""
    pixels = np.ascontiguousarray(images.pixels.numpy()[indices])
    buffers = [None, arrow.py_buffer(pixels.tobytes())]
    columns = [
        arrow.array([split] * len(indices)),
        arrow.array(indices.astype(np.int32)),
        arrow.array(images.labels.numpy()[indices].astype(np.uint8)),
        arrow.Array.from_buffers(arrow.binary(pixels[0].size), len(indices), buffers),
    ]
    return arrow.Table.from_arrays(columns, schema=SCHEMA)


if __name__ == "__main__":
    main()
