"""What a training run is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hwnas.data.augmentation import AugmentationConfig


class TrainingConfig(BaseModel):
    """A sandwich training run; everything that its result depends on.

    The run has two phases: for ``full_epochs`` only the largest subnet is trained, then channels are sorted by
    importance and the sandwich begins (largest, smallest, ``random_subnets`` others at every step).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(default=30, gt=0)
    full_epochs: float = Field(default=2, ge=0)
    """Like ``epochs`` and ``warmup_epochs`` not necessarily whole; a run has a whole number of steps, at least one."""
    batch_size: int = Field(default=128, ge=1)
    """Images a step, over all processes together."""
    random_subnets: int = Field(default=2, ge=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-5, ge=0)
    """Not applied to biases, norms and kernel transforms."""
    warmup_epochs: float = Field(default=1.0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    distillation: float = Field(default=1.0, ge=0, le=1)
    """Weight of the largest subnet's soft labels in the loss of the others; the rest is cross entropy."""
    gradient_clip: float = Field(default=5.0, gt=0)
    """Largest L2 norm of the gradient."""
    ema_decay: float = Field(default=0.9995, ge=0, lt=1)
    """Decay a step of the moving average of the weights, which is what is saved; 0: no averaging."""
    augmentation: AugmentationConfig = AugmentationConfig()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = Field(default=0, ge=0)
    checkpoint_steps: int = Field(default=200, ge=1)
    evaluate_epochs: int = Field(default=1, ge=1)
    """Epochs between two evaluations of the largest and the smallest subnet on the validation split."""
