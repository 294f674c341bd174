"""What is asked of the doctor: a model, a platform, and how the engine shall be built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwnas.doctor.model import Model
from hwnas.doctor.platform import Platform
from hwnas.doctor.version import Version

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]


@dataclass(frozen=True)
class BuildPlan:
    """How the engine shall be built.

    Attributes:
        precision: None for the precision in which the model is written.
        dynamic_batch: whether an optimisation profile for the batch will be given.
        workspace_bytes: limit of scratch memory; None for none.
        on_dla: whether a deep-learning accelerator shall execute it.
    """

    precision: Precision | None = None
    dynamic_batch: bool = False
    workspace_bytes: int | None = None
    on_dla: bool = False


@dataclass(frozen=True)
class Case:
    """One model on one platform."""

    model: Model
    platform: Platform
    plan: BuildPlan

    @property
    def version(self) -> Version:
        """Of TensorRT."""
        return self.platform.version
