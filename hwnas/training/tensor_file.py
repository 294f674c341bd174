"""Tensors by name in a safetensors file that is written whole, and noticed where it is no longer as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hwnas.errors import BadFileError
from hwnas.files import write_atomic
from hwnas.supernet.checkpoint import contiguous_copies

_SHA256 = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts, whole or not at all."""
    copies = contiguous_copies(tensors)
    write_atomic(path, save(copies, metadata={**metadata, _SHA256: weights_digest(copies)}))


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
