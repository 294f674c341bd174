"""What an ONNX file says of itself: string properties, so that whoever finds it knows what it is and how to feed it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hwnas.errors import BadFileError, UserError
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
    return {entry.key: entry.value for entry in load_model(path).metadata_props}


def input_resolution(path: Path) -> int:
    """Side in pixels of a model's one static input [batch, 3, r, r].

    Raises:
        BadFileError: there is no such file, or it is not ONNX.
        UserError: the model has another input.
    """
    inputs = load_model(path).graph.input
    shape = [dimension.dim_value for dimension in inputs[0].type.tensor_type.shape.dim] if len(inputs) == 1 else []
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or 0 in shape:
        raise UserError(f"model {path} does not take one static input [batch, 3, r, r]; export it with `hwnas export`.")
    return int(shape[2])


def load_model(path: Path) -> onnx.ModelProto:
    """An ONNX file.

    Raises:
        BadFileError: there is no such file, or it is not ONNX.
    """
    try:
        return onnx.load_model_from_string(read_bytes(path, what="model"))
    except DecodeError as error:
        raise BadFileError(f"model {path} is not ONNX ({error}); export it again.") from error
