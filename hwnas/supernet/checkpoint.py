"""Supernet weights on disk: ``weights.safetensors`` and, beside it, ``record.json``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from hwnas.errors import BadFileError
from hwnas.files import Document, read_bytes, read_model, write_atomic, write_json
from hwnas.spaces import Space, get_space
from hwnas.supernet.network import ElasticNetwork

WEIGHTS_FILE = "weights.safetensors"
RECORD_FILE = "record.json"


class DatasetRecord(BaseModel):
    """The data a supernet was trained on, as far as its use depends on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    fingerprint: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_images: int


class SupernetRecord(Document):
    """What is known of a supernet: its space, its data, how it was trained, how good it is."""

    space: str
    num_classes: int
    weights_sha256: str
    dataset: DatasetRecord
    training: dict[str, Any]
    """Configuration, steps done, seconds, and the version of torch."""
    metrics: dict[str, float]
    recalibration: dict[str, Any] | None = None
    """See :attr:`ElasticNetwork.recalibration`."""


def save_supernet(directory: Path, supernet: ElasticNetwork, record: SupernetRecord) -> SupernetRecord:
    """Write weights and record, each whole or not at all; returns the record with what the supernet tells itself."""
    written = write_weights(supernet, directory / WEIGHTS_FILE)
    record = record.model_copy(update={"weights_sha256": written, "recalibration": supernet.recalibration})
    write_json(directory / RECORD_FILE, record)
    return record


def load_record(directory: Path) -> SupernetRecord:
    """Read the record beside the weights.

    Raises:
        BadFileError: there is none, or it is not one.
    """
    return read_model(directory / RECORD_FILE, SupernetRecord, what="supernet record")


def load_supernet(directory: Path, space: Space | None = None) -> tuple[ElasticNetwork, SupernetRecord]:
    """Read a supernet in evaluation mode, and its record.

    Args:
        space: where it has no name of its own, such as :func:`hwnas.spaces.single_space`; by default the record's.

    Raises:
        BadFileError: a file is missing, is not what its record says (hash), or does not fit the space.
    """
    record = load_record(directory)
    supernet = ElasticNetwork(space or get_space(record.space, record.num_classes))
    fill(supernet, directory / WEIGHTS_FILE, record.weights_sha256, what="supernet weights")
    supernet.recalibration = record.recalibration
    return supernet.to(memory_format=torch.channels_last).eval(), record  # type: ignore[call-overload]


def write_weights(network: nn.Module, path: Path) -> str:
    """Write all tensors of a network as safetensors, whole or not at all; returns the file's SHA-256."""
    content = save(contiguous_copies(network.state_dict()))
    write_atomic(path, content)
    return hashlib.sha256(content).hexdigest()


def contiguous_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: none shares memory with another, as weights do that blocks share."""
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def fill(network: nn.Module, path: Path, sha256: str, *, what: str) -> None:
    """Give a network the weights of a safetensors file.

    Args:
        sha256: of the file, as its record says.
        what: the file is, for messages.

    Raises:
        BadFileError: it is missing, is another or no such file, or does not fit the network.
    """
    content = read_bytes(path, what=what)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BadFileError(f"{what} {path} are corrupt: their SHA-256 is not the one in the record; restore both.")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise BadFileError(f"{what} {path} are not safetensors ({error}); restore them.") from error
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BadFileError(f"{what} {path} do not fit their record: {first}") from error


def shipped_supernets() -> list[Path]:
    """The checkpoints that come with hwnas."""
    return sorted(path.parent for path in (Path(__file__).parent / "weights").glob(f"*/{RECORD_FILE}"))
