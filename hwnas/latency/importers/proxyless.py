"""Tables published with ProxylessNAS (Cai et al. 2019): one YAML file a device, of MobileNetV2's blocks.

Their activation is ReLU6, as in the family ``proxyless``.  An inverted residual stands for the same one with ReLU as
well, so that a space of another family imports what it has in common with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from hwnas.errors import BadFileError
from hwnas.files import read_bytes
from hwnas.latency.importers.base import Conversion, Format
from hwnas.latency.importers.rows import Published, Row, RowKey, read_row, without_duplicates
from hwnas.spaces import BlockSpec
from hwnas.spaces.block import Activation


def read(path: Path) -> Published:
    """All rows of a device's file; the stems' inputs say of which resolutions they are.

    Raises:
        BadFileError: there is no such file, or it is not of the format.
    """
    content = read_bytes(path, what="published table")
    try:
        found = yaml.load(content, _Loader)  # noqa: S506 -- a safe loader that refuses keys that stand there twice
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BadFileError(
            f"published table {path} is not good YAML ({' '.join(str(error).split())[:200]})."
        ) from error
    if not isinstance(found, dict) or not found:
        raise BadFileError(f"published table {path} should be a mapping of rows, found {found!r:.60}.")
    keyed = [read_row(path, 0, key, value) for key, value in found.items()]
    sizes = sorted({row.key.input[0] for row in keyed if row.key.op == "Conv" and len(row.key.input) == 3})
    if not sizes:
        raise BadFileError(f"published table {path} has no Conv row, which says the resolution.")
    # Only the stem names its resolution; the others' keys say their sizes, so that any of them will do.
    rows = tuple(Row(sizes[-1], row.key, row.count, row.mean_ms, row.std_ms) for row in keyed)
    return Published(rows, tuple(sizes))


def siblings(path: Path) -> list[Path]:
    """Other YAML files beside this one."""
    return [other for other in sorted(path.resolve().parent.glob("*.y*ml")) if other != path.resolve()]


def convert(rows: Sequence[Row]) -> Conversion:
    """Rows as blocks.

    Raises:
        BadFileError: an operation is not known, or a key lacks something.
    """
    blocks: list[tuple[BlockSpec, tuple[Row, ...]]] = []
    for row in rows:
        try:
            blocks += [(block, (row,)) for block in _blocks(row.key)]
        except ValueError as error:
            raise BadFileError(f"Published row '{row.key.text}': {error}.") from error
    return Conversion(tuple(blocks))


def _blocks(key: RowKey) -> tuple[BlockSpec, ...]:
    """The blocks that one row stands for.

    Raises:
        ValueError: there is none.
    """
    if key.op == "expanded_conv":
        return _residual(key, "relu6"), _residual(key, "relu")
    if key.op == "Logits" and len(key.input) == 3:  # with the pool before it
        height, width, channels = key.input
        return (BlockSpec("head", channels, height, width, key.output[-1], activation="none"),)
    if key.op in ("Conv", "Conv_1"):
        key.require()
        height, width, channels = key.input
        kernel, stride = (3, 2) if key.op == "Conv" else (1, 1)
        out = key.output[2]
        return (BlockSpec("conv", channels, height, width, out, kernel=kernel, stride=stride, activation="relu6"),)
    raise ValueError(f"there is no operation '{key.op}'; known are expanded_conv, Conv, Conv_1, Logits")


def _residual(key: RowKey, activation: Activation) -> BlockSpec:
    """An inverted residual; ``expand`` is the ratio of its widening."""
    ratio, kernel, stride, skip = key.require("expand", "kernel", "stride", "idskip")
    height, width, channels = key.input
    if stride < 1:
        raise ValueError("stride must be at least 1")
    mid = ratio * channels
    return BlockSpec(
        "mbconv", channels, height, width, key.output[2], mid, kernel, stride, activation=activation, skip=bool(skip)
    )


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands there twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: ARG002
        """The mapping of a node, always whole."""
        return without_duplicates(
            [(self.construct_object(k, deep=True), self.construct_object(v, deep=True)) for k, v in node.value]
        )


PROXYLESS = Format("proxyless", read, siblings, convert, whole=False)
