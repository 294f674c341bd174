"""Tables published with Once-for-All (Cai et al. 2020): a directory a device, in it ``<resolution>.json``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from hwnas.errors import BadFileError
from hwnas.files import read_bytes
from hwnas.latency.importers.base import Conversion, Format
from hwnas.latency.importers.rows import Published, Row, RowKey, read_row, without_duplicates
from hwnas.spaces import BlockSpec

_HEAD = ("AvgPool2D", "Conv_2", "Logits")
"""Rows that together are one ``head``; only the first names the feature map's size."""


def read(path: Path) -> Published:
    """All rows of a device's directory, or of one file.

    Raises:
        BadFileError: there is no such file, or it is not of the format.
    """
    if not path.exists():
        raise BadFileError(f"Published table {path} does not exist; check the path.")
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise BadFileError(f"Published table {path} holds no <resolution>.json; give the directory of one device.")
    rows = [row for file in files for row in _read_file(file)]
    return Published(tuple(rows), tuple(sorted({row.resolution for row in rows})))


def siblings(path: Path) -> list[Path]:
    """Other devices' directories beside this one that have a resolution in common with it."""
    device = path.resolve() if path.is_dir() else path.resolve().parent
    names = [file.name for file in device.glob("*.json")] if path.is_dir() else [path.name]
    beside = (other for other in sorted(device.parent.iterdir()) if other.is_dir() and other != device)
    return [other for other in beside if any((other / name).is_file() for name in names)]


def convert(rows: Sequence[Row]) -> Conversion:
    """Rows as blocks.

    Raises:
        BadFileError: an operation is not known, or a key lacks something.
    """
    blocks: list[tuple[BlockSpec, tuple[Row, ...]]] = []
    refused: list[tuple[Row, str]] = []
    heads: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.key.op in _HEAD:
            heads[row.resolution].append(row)
            continue
        try:
            blocks.append((_block(row.key), (row,)))
        except ValueError as error:
            raise BadFileError(f"Published row '{row.key.text}' at {row.resolution} px: {error}.") from error
    for parts in heads.values():
        found = {row.key.op: row for row in parts}
        if len(parts) == len(found) == len(_HEAD):
            blocks.append((_head(*(found[op].key for op in _HEAD)), tuple(parts)))
        else:
            refused += [(row, "the other rows of the head are not there, or more than once") for row in parts]
    return Conversion(tuple(blocks), tuple(refused))


def _read_file(path: Path) -> list[Row]:
    if not path.stem.isascii() or not path.stem.isdigit():
        raise BadFileError(f"Published table {path} must be named by its resolution, such as 224.json.")
    content = read_bytes(path, what="published table")
    try:
        found = json.loads(content, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"published table {path} is not good JSON ({error}); restore it.") from error
    if not isinstance(found, dict) or not found:
        raise BadFileError(f"published table {path} should be an object of rows, found {found!r:.60}.")
    return [read_row(path, int(path.stem), key, value) for key, value in found.items()]


def _block(key: RowKey) -> BlockSpec:
    """The block that one row stands for.

    Raises:
        ValueError: there is none.
    """
    if key.op == "expanded_conv":
        mid, kernel, stride, skip, se, h_swish = key.require("expand", "kernel", "stride", "idskip", "se", "hs")
        block = BlockSpec(
            "mbconv",
            in_channels=key.input[2],
            in_height=key.input[0],
            in_width=key.input[1],
            out_channels=key.output[2],
            mid_channels=mid,
            kernel=kernel,
            stride=_at_least_one(stride),
            se=bool(se),
            activation="h_swish" if h_swish else "relu",
            skip=bool(skip),
        )
    elif key.op in ("Conv", "Conv_1"):
        key.require()
        kernel, stride = (3, 2) if key.op == "Conv" else (1, 1)
        height, width, channels = key.input
        block = BlockSpec(
            "conv", channels, height, width, key.output[2], kernel=kernel, stride=stride, activation="h_swish"
        )
    else:
        raise ValueError(f"there is no operation '{key.op}'; known are expanded_conv, Conv, Conv_1, {', '.join(_HEAD)}")
    if key.output[:2] != (block.out_height, block.out_width):
        raise ValueError(f"its output should be {block.out_height}x{block.out_width}")
    return block


def _head(pool: RowKey, hidden: RowKey, logits: RowKey) -> BlockSpec:
    height, width = pool.input[:2] if len(pool.input) == 3 else (1, 1)
    return BlockSpec("head", pool.input[-1], height, width, logits.output[-1], hidden.output[-1], activation="h_swish")


def _at_least_one(stride: int) -> int:
    if stride < 1:
        raise ValueError("stride must be at least 1")
    return stride


OFA = Format("ofa", read, siblings, convert, whole=True)
