"""Checkpoints of others: read without running code, and written into a network under other names."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.errors import BadFileError
from hwnas.files import read_bytes

State = Mapping[str, Tensor]
COUNTER = "num_batches_tracked"
"""Of batch norms; it enters no output."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a file that ``torch.save`` wrote: a state dict, or one under the key ``state_dict``.

    Raises:
        BadFileError: it is missing, damaged, or holds anything that weights are not made of, such as code.
    """
    content = read_bytes(path, what="checkpoint")
    try:
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it would call {called[1]}, and is not run" if called else "it was not written by torch.save"
        raise BadFileError(f"checkpoint {path} holds more than weights: {found}; get the published file.") from error
    except Exception as error:  # whatever torch's readers meet in a damaged file
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFileError(f"checkpoint {path} is damaged ({first}); get the published file again.") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BadFileError(f"checkpoint {path} holds no tensors by name; get the published file.")
    return {str(name): tensor for name, tensor in state.items()}


def read_class_names(path: Path) -> tuple[str, ...]:
    """The lines of a text file that are not blank.

    Raises:
        BadFileError: it is missing or not text.
    """
    try:
        lines = read_bytes(path, what="class names").decode().splitlines()
    except UnicodeDecodeError as error:
        raise BadFileError(f"class names {path} are not text in UTF-8; give one name a line.") from error
    return tuple(line.strip() for line in lines if line.strip())


def first_misfit(network: nn.Module, state: State, name_of: Callable[[str], str]) -> str | None:
    """Why a state is not that of a network, as a clause; None where it is.

    Args:
        network: ours.
        state: theirs.
        name_of: from a name in our state to the one in theirs.
    """
    ours = {name_of(name): tensor for name, tensor in network.state_dict().items() if not name.endswith(COUNTER)}
    for name, tensor in ours.items():
        if name not in state:
            return f"{name} is missing"
        if state[name].shape != tensor.shape:
            return f"{name} has shape {list(state[name].shape)}, not {list(tensor.shape)}"
        if not state[name].isfinite().all():
            return f"{name} has values that are no numbers"
    more = next((name for name in state if name not in ours and not name.endswith(COUNTER)), None)
    return None if more is None else f"{more} is in no block"


def fill(network: nn.Module, state: State, name_of: Callable[[str], str]) -> None:
    """Write their state into our network; :func:`first_misfit` says that it fits."""
    own = network.state_dict()
    renamed = {name: tensor if name.endswith(COUNTER) else state[name_of(name)] for name, tensor in own.items()}
    network.load_state_dict(renamed)
