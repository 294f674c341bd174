"""Parquet files in the Hugging Face style: a column of encoded images and a column of labels."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as arrow
from pyarrow import parquet

from hwnas.data.decoding import Encoded, Pixels, decode_all, default_side
from hwnas.data.source import SPLIT_OF_NAME, Contents, Part, Source, checked_contents, identity_of
from hwnas.data.splits import Indices
from hwnas.errors import BadFileError, UserError

_SPLIT_PREFIX = re.compile(rf"({'|'.join(SPLIT_OF_NAME)})(?:[-_.]|$)", re.IGNORECASE)
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "class", "category", "target", "fine_label")
_HEADERS_READ = 256
_BATCH = 256

Files = Sequence[Path]
Label = int | str


def parquet_files(path: Path) -> list[Path]:
    """The parquet files that ``path`` stands for: itself, or those in it or in its folder ``data``."""
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def parquet_source(
    path: Path,
    storage_size: int | None,
    image_column: str | None = None,
    label_column: str | None = None,
    name: str | None = None,
) -> Source:
    """Find the parquet files of a data set; ``train-…``, ``validation-…`` and ``test-…`` are its splits.

    Images are structs ``{bytes, path}`` or plain binary; labels are integers (their names from the schema's metadata
    where it has them) or strings.

    Args:
        path: one file, or a folder of them.
        storage_size: side in pixels at which images are stored; ``None`` takes their median short side, at most 256.
        image_column, label_column: which columns; by default the only ones that fit, or those with a usual name.
        name: of the data set; by default that of the file or the folder.

    Raises:
        UserError: some files bear a split's name and others do not, or none is for training.
    """
    files = parquet_files(path)
    options = {"side": storage_size, "image": image_column, "label": label_column}
    identity = identity_of(files, options)
    name = name or (path.resolve().stem if path.is_file() else path.resolve().name)
    opener = partial(_open, _by_split(files, path), storage_size, image_column, label_column, str(path))
    return Source(name, str(path), identity, opener)


def _by_split(files: Files, path: Path) -> Mapping[str, Files]:
    if len(files) == 1:
        return {"train": files}
    matches = {file: _SPLIT_PREFIX.match(file.stem) for file in files}
    if not any(matches.values()):
        return {"train": files}
    splits: dict[str, list[Path]] = {}
    for file, match in matches.items():
        if match is None:
            raise UserError(f"{file} bears no split's name while others in {path} do; rename or remove it.")
        splits.setdefault(SPLIT_OF_NAME[match[1].lower()], []).append(file)
    if "train" not in splits:
        raise UserError(f"{path} holds no parquet file for training; expected is train*.parquet.")
    return splits


def _open(
    splits: Mapping[str, Files],
    storage_size: int | None,
    image_column: str | None,
    label_column: str | None,
    where: str,
) -> Contents:
    first = splits["train"][0]
    schema = _schema(first)
    image = _choose_column(schema, first, image_column, _IMAGE_NAMES, "image", _is_image)
    label = _choose_column(schema, first, label_column, _LABEL_NAMES, "label", _is_label)
    found = {split: [_read_labels(file, label) for file in files] for split, files in splits.items()}
    numbers = _numbers(schema, label, found["train"])
    class_names = tuple(str(name) for name in _metadata_names(schema, label) or numbers)
    labels = {
        split: np.concatenate(
            [_numbered(file, values, numbers) for file, values in zip(files, found[split], strict=True)]
        )
        for split, files in splits.items()
    }
    if not len(labels["train"]):
        raise UserError(f"{where}: the train split holds no image; add images.")
    side = storage_size or default_side(list(islice(_read_images(splits["train"], image), _HEADERS_READ)))
    parts = {split: Part(labels[split], partial(_decoded, files, image, side)) for split, files in splits.items()}
    return checked_contents(Contents(class_names, parts, side), where)


def _decoded(files: Files, image: str, side: int) -> Iterator[Pixels]:
    return decode_all(_read_images(files, image), side)


def _schema(file: Path) -> arrow.Schema:
    try:
        return parquet.read_schema(file)
    except (arrow.ArrowInvalid, OSError) as error:
        raise BadFileError(f"{file} is not a readable parquet file ({error}); restore it.") from error


def _choose_column(
    schema: arrow.Schema,
    file: Path,
    wanted: str | None,
    usual: Sequence[str],
    kind: str,
    fits: Callable[[arrow.DataType], bool],
) -> str:
    """The column called ``wanted``, else the only one that fits, else the one with a usual name."""
    there = f"its columns are {', '.join(schema.names)}"
    fitting = [field.name for field in schema if fits(field.type)]
    if wanted is not None:
        if wanted not in fitting:
            raise BadFileError(f"{file} has no {kind} column '{wanted}'; {there}.")
        return wanted
    chosen = fitting if len(fitting) == 1 else [name for name in usual if name in fitting][:1]
    if not chosen:
        trouble = f"several possible {kind} columns ({', '.join(fitting)})" if fitting else f"no {kind} column"
        raise BadFileError(f"{file} has {trouble}; {there}, name the one to use.")
    return chosen[0]


def _is_image(kind: arrow.DataType) -> bool:
    if arrow.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_image(kind.field(index).type)
    return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))


def _is_label(kind: arrow.DataType) -> bool:
    if arrow.types.is_dictionary(kind):
        return _is_label(kind.value_type)
    types = arrow.types
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _read_labels(file: Path, column: str) -> list[Label]:
    """The labels of a file as they are written.

    Raises:
        BadFileError: naming the file, and the row without a label.
    """
    _require_column(file, column, _is_label)
    with _explained(file):
        values: list[Label | None] = parquet.read_table(file, columns=[column])[column].to_pylist()
    if None in values:
        raise BadFileError(f"{file}, row {values.index(None)} has no label; add it or remove the row.")
    return cast(list[Label], values)


def _numbers(schema: arrow.Schema, column: str, found: Sequence[Sequence[Label]]) -> Mapping[Label, int]:
    """Class numbers by written label: those of the metadata's names, else of the training labels in their order."""
    names = _metadata_names(schema, column)
    if names is None:
        return {label: number for number, label in enumerate(sorted({x for labels in found for x in labels}))}
    if arrow.types.is_integer(schema.field(column).type):
        return {number: number for number in range(len(names))}
    return {name: number for number, name in enumerate(names)}


def _numbered(file: Path, labels: Sequence[Label], numbers: Mapping[Label, int]) -> Indices:
    for row, label in enumerate(labels):
        if label not in numbers:
            raise BadFileError(
                f"{file}, row {row} has the label {label!r}, which is none of the {len(numbers)} classes; "
                "mend the label or remove the row."
            )
    return np.array([numbers[label] for label in labels], dtype=np.int64)


def _metadata_names(schema: arrow.Schema, column: str) -> list[str] | None:
    """Class names from the metadata: the ``datasets`` library's ClassLabel, or ``label_names`` line by line."""
    metadata = schema.metadata or {}
    if b"label_names" in metadata:
        return cast(str, metadata[b"label_names"].decode()).splitlines()
    try:
        names = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _read_images(files: Files, column: str) -> Iterator[Encoded]:
    """The encoded images of all files, row by row."""
    for file in files:
        _require_column(file, column, _is_image)
        row = 0
        with _explained(file), parquet.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=_BATCH, columns=[column]):
                for cell in batch.column(0).to_pylist():
                    data = cell["bytes"] if isinstance(cell, dict) else cell
                    where = f"{file}, row {row}"
                    if not data:
                        raise BadFileError(
                            f"{where} holds no image bytes; store the image in the file or remove the row."
                        )
                    yield Encoded(where, data)
                    row += 1


def _require_column(file: Path, column: str, fits: Callable[[arrow.DataType], bool]) -> None:
    schema = _schema(file)
    if column not in schema.names or not fits(schema.field(column).type):
        raise BadFileError(f"{file} has no column '{column}' as the training files do; make the files alike.")


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        raise BadFileError(f"{file} cannot be read as parquet ({error}); restore it.") from error
