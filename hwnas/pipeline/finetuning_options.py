"""What a fine-tuning is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hwnas.errors import UserError
from hwnas.files import Document
from hwnas.pipeline.pruning import Limit
from hwnas.pipeline.training import training_config
from hwnas.supernet import load_record
from hwnas.supernet.pruning import MULTIPLE
from hwnas.training import TrainingConfig
from hwnas.training.alone import FIXED, alone

GENTLER = 0.2
"""Of the supernet's learning rate: the weights need not be found, only fitted."""


class FineTuningConfig(Document):
    """What a directory holds the fine-tuning of."""

    space: str
    architecture: dict[str, Any]
    supernet_sha256: str
    dataset_fingerprint: str
    training: TrainingConfig


@dataclass(frozen=True)
class Pruning:
    """How channels are removed.

    Attributes:
        limit: of the latency, to be kept as measured.
        rounds: in which the limit is come to, with fine-tuning after each.
        training: of each of these.
        multiple: of which widths become.
    """

    limit: Limit
    rounds: int
    training: TrainingConfig
    multiple: int = MULTIPLE

    @classmethod
    def of(
        cls, limit: Limit, rounds: int, training: TrainingConfig, epochs: float | None, multiple: int = MULTIPLE
    ) -> Self:
        """With other epochs than ``training`` has, if any are given.

        Raises:
            UserError: there are none.
        """
        if epochs is None:
            return cls(limit, rounds, training, multiple)
        return cls(limit, rounds, training_config(alone(training.model_dump(), epochs)), multiple)


def training_settings(supernet: Path, epochs: float, settings: Mapping[str, Any]) -> TrainingConfig:
    """How a subnet is trained alone: as its supernet was, and taught by its largest subnet, at a gentler rate that
    falls from the first step on.

    Args:
        settings: that are to be otherwise.

    Raises:
        BadFileError: there is no such supernet.
        UserError: a setting is unknown, out of range or none of a fine-tuning's.
    """
    unfitting = (FIXED.keys() | {"epochs", "full_epochs"}) & settings.keys()
    if unfitting:
        raise UserError(f"A fine-tuning has no setting {', '.join(sorted(unfitting))}; leave it out of --config.")
    base = training_config(load_record(supernet).training.get("config", {}))
    gentler = {"learning_rate": GENTLER * base.learning_rate, "warmup_epochs": 0.0, "teacher": str(supernet)}
    return training_config(alone(base.model_dump() | gentler | dict(settings), epochs))
