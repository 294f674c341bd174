"""``options.json``: the tuned options, for ``hwnas train --options`` and ``hwnas run --options``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hwnas.errors import UserError
from hwnas.files import Document, read_model
from hwnas.training import TrainingConfig
from hwnas.tuning.ranges import with_values

OPTIONS_FILE = "options.json"
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Values(BaseModel):
    """What was tuned; None: it was not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    augmentation_strength: Annotated[float, Field(ge=0, le=10)] | None = None
    distillation: Share | None = None


class TunedOptions(Document):
    """The best configuration of a tuning, and of which training it is the best.

    Attributes:
        optimizer, batch_size: of the tuned training; with others the options would mean something else.
        epochs: of the longest run.
        accuracy: mean validation top-1 of the measured subnets at the end of it, in 0..1.
        untuned_accuracy: the same of the settings before tuning after equal training, if they were trained so far.
        configuration: its number among ``configurations``; 0 are the settings before tuning.
    """

    options: Values
    optimizer: str
    batch_size: int
    space: str
    dataset: str
    dataset_fingerprint: str
    epochs: float
    accuracy: Share
    untuned_accuracy: Share | None
    configuration: int
    configurations: int
    seed: int


def read_options(path: Path) -> TunedOptions:
    """Read tuned options.

    Raises:
        BadFileError: the file is missing, or a field is.
    """
    return read_model(path, TunedOptions, what="tuned options")


def apply_options(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Training settings with the tuned options of a file in place of their own.

    Raises:
        BadFileError: see :func:`read_options`.
        UserError: the settings have another optimizer or batch size.
    """
    tuned = read_options(path)
    defaults = TrainingConfig()
    for name in ("optimizer", "batch_size"):
        mine, theirs = settings.get(name, getattr(defaults, name)), getattr(tuned, name)
        if mine != theirs:
            raise UserError(
                f"The options in {path} were tuned for {name.replace('_', ' ')} {theirs}, not {mine}; train with "
                f"{theirs}, or tune anew."
            )
    return with_values(settings, tuned.options.model_dump(exclude_none=True))
