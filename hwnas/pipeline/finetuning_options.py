"""What a fine-tuning is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from hwnas.errors import UserError
from hwnas.files import Document
from hwnas.pipeline.finetuning_rates import FACTORS
from hwnas.pipeline.pruning import Limit
from hwnas.pipeline.training import training_config
from hwnas.spaces import Task
from hwnas.supernet import load_record
from hwnas.supernet.pruning import MULTIPLE
from hwnas.training import TrainingConfig
from hwnas.training.alone import FIXED, alone


class TrainingPlan(BaseModel):
    """How a subnet is trained further."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: TrainingConfig
    """At the learning rate that was set, or at the supernet's."""
    rates: tuple[float, ...] = ()
    """Learning rates that are tried first; none where one was set."""


class FineTuningConfig(Document):
    """What a directory holds the fine-tuning of."""

    space: str
    architecture: dict[str, Any]
    supernet_sha256: str
    dataset_fingerprint: str
    training: TrainingConfig
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Pruning:
    """How channels are removed.

    Attributes:
        limit: of the latency, to be kept as measured.
        rounds: in which the limit is come to, with fine-tuning after each.
        training: of each of these, at the learning rate of the fine-tuning before them.
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


def training_plan(supernet: Path, task: Task, epochs: float, settings: Mapping[str, Any]) -> TrainingPlan:
    """How a subnet is trained alone: as its supernet was, at a rate that falls from the first step on.

    A classifier is taught by the supernet's largest subnet.

    Args:
        supernet: directory of the trained weights.
        task: of its space.
        settings: that are to be otherwise.

    Raises:
        BadFileError: there is no such supernet.
        UserError: a setting is unknown, out of range or none of a fine-tuning's.
    """
    unfitting = (FIXED.keys() | {"epochs", "full_epochs"}) & settings.keys()
    if unfitting:
        raise UserError(f"A fine-tuning has no setting {', '.join(sorted(unfitting))}; leave it out of --config.")
    base = training_config(load_record(supernet).training.get("config", {}))
    teacher = str(supernet) if task == "classification" else None
    further = {"warmup_epochs": 0.0, "teacher": teacher} | dict(settings)
    config = training_config(alone(base.model_dump() | further, epochs))
    rates = () if "learning_rate" in settings else tuple(factor * base.learning_rate for factor in FACTORS)
    return TrainingPlan(config=config, rates=rates)
