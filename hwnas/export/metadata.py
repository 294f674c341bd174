"""What an ONNX file says of itself: string properties, so that whoever finds it knows what it is and how to feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hwnas.errors import BadFileError
from hwnas.files import read_bytes
from hwnas.spaces import Architecture

PREFIX = "hwnas."


def model_metadata(
    *,
    architecture: Architecture | None,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Properties for :func:`hwnas.export.export_onnx`, which adds ``hwnas.version``.

    Args:
        architecture: the subnet's (written as JSON, and its space beside it), None for a network of no space.
        class_names: what the logits stand for, in their order (JSON).
        mean, std: three numbers each, by which pixels scaled to 0..1 are normalised (JSON).
        extra: further properties by name without prefix.
    """
    found: dict[str, str] = {}
    if architecture is not None:
        choices = json.dumps(architecture.to_json(), separators=(",", ":"))
        found |= {"space": architecture.space, "architecture": choices, "architecture_id": architecture.id}
    found |= {
        "class_names": json.dumps(list(class_names)),
        "mean": json.dumps(list(mean)),
        "std": json.dumps(list(std)),
    }
    return {PREFIX + name: value for name, value in (found | dict(extra or {})).items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The properties of an ONNX file.

    Raises:
        BadFileError: there is no such file, or it is not ONNX.
    """
    try:
        model = onnx.load_model_from_string(read_bytes(path, what="model"))
    except DecodeError as error:
        raise BadFileError(f"model {path} is not ONNX ({error}); export it again.") from error
    return {entry.key: entry.value for entry in model.metadata_props}
