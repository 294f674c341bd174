"""Everything a training run needs to go on after a kill, as safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, describe
from hwnas.training.config import TrainingConfig
from hwnas.training.tensor_file import read_metadata, read_tensors, write_tensors

STATE_FILE = "state.safetensors"
_WHAT = "training state"


class Progress(Document):
    """How far a run has come, and of which run this is the state."""

    step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    space: str
    num_classes: int
    dataset_fingerprint: str
    config: TrainingConfig
    teacher_sha256: str = ""
    """Of the weights of the network that ``config`` names as teacher."""
    beginning_sha256: str = ""
    """Of the weights that were given to begin with."""
    first_loss: float = 0.0
    """Of the first step's first subnet, against which later ones are seen to have blown up."""

    def require_run_of(self, other: Progress, path: Path) -> None:
        """Refuse to go on with the state in ``path``, whose progress this is, as another run.

        Raises:
            UserError: ``other`` is of a run with other inputs.
        """
        for field in ("space", "num_classes", "dataset_fingerprint", "config", "teacher_sha256", "beginning_sha256"):
            if getattr(self, field) != getattr(other, field):
                raise UserError(
                    f"{path} is the state of a run with another {field.replace('_', ' ')}; give the same settings to "
                    "go on, or another directory to begin anew."
                )


@dataclass(slots=True)
class State:
    """The tensors of a run.

    ``average`` is the moving average of the parameters, by name; ``teacher`` the network that teaches and no longer
    learns, where the run has made one.
    """

    model: nn.Module
    optimizer: Optimizer
    average: dict[str, Tensor]
    teacher: nn.Module | None = None

    def save(self, path: Path, progress: Progress) -> None:
        """Write the state whole or not at all."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.items()}
        if self.teacher is not None:
            tensors |= {f"teacher.{name}": tensor for name, tensor in self.teacher.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        write_tensors(path, tensors, {"progress": progress.model_dump_json()})

    def restore(self, path: Path) -> None:
        """Put the tensors of :meth:`save` back in place.

        Raises:
            BadFileError: the file is not as it was written.
        """
        tensors = read_tensors(path, _WHAT)
        with torch.no_grad():
            self.model.load_state_dict(_below("model.", tensors))
            for name, tensor in _below("average.", tensors).items():
                self.average[name].copy_(tensor)
            if self.teacher is not None:
                self.teacher.load_state_dict(_below("teacher.", tensors))
        parameters = dict(self.model.named_parameters())
        for key_and_name, tensor in _below("optimizer.", tensors).items():
            key, name = key_and_name.split(".", 1)
            parameter = parameters[name]
            # Scalars such as AdamW's step count lie beside the parameter, as the fused optimizers want them.
            same = tensor.shape == parameter.shape
            value = torch.empty_like(parameter).copy_(tensor) if same else tensor.to(parameter.device)
            self.optimizer.state[parameter][key] = value


def read_progress(path: Path) -> Progress:
    """How far the run of a state file had come.

    Raises:
        BadFileError: it is not a state file of ours.
    """
    metadata = read_metadata(path, _WHAT)
    try:
        return Progress.model_validate(json.loads(metadata["progress"]))
    except (KeyError, ValueError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else "it holds no training progress"
        raise BadFileError(f"{_WHAT} {path}: {reason}; delete it to begin anew.") from error


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
