"""Tensors by name in a safetensors file that is written whole, and noticed where it is no longer as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hwnas.errors import BadFileError
from hwnas.files import write_atomic

_SHA256 = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts, whole or not at all."""
    # Copies, since safetensors takes no memory twice, as weights are in that blocks share.
    contiguous = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    write_atomic(path, save(contiguous, metadata={**metadata, _SHA256: weights_digest(contiguous)}))


def read_metadata(path: Path, what: str) -> dict[str, str]:
    """The texts of a file, which messages call ``what``.

    Raises:
        BadFileError: it is missing or not such a file.
    """
    with _opened(path, what) as file:
        return dict(file.metadata() or {})


def read_tensors(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file, which messages call ``what``.

    Raises:
        BadFileError: it is missing, not such a file, or not as it was written.
    """
    with _opened(path, what) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expected = (file.metadata() or {}).get(_SHA256)
    if weights_digest(tensors) != expected:
        raise BadFileError(f"{what} {path} is corrupt (its SHA-256 is another); delete it to begin anew.")
    return tensors


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _opened(path: Path, what: str) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BadFileError(f"{what} {path} cannot be read ({error}); delete it to begin anew.") from error
