"""What a training run is made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwnas.data.augmentation import AugmentationConfig
from hwnas.data.detection.jitter import JitterConfig
from hwnas.detection.losses import LossConfig
from hwnas.errors import UserError

RecipeName = Literal["sandwich", "progressive", "single-stage"]

MOST_EPOCHS = 1e6
MOST = 1e30
"""Of what a step computes with, whose products are still numbers in single precision."""
MOST_DECAY = 1e6
"""AdamW's factor on the weights is its product with the learning rate."""
MOST_ALPHA = 100.0
SEEDS = 2**63
"""So many; what torch takes."""


def _full_epochs(given: dict[str, Any]) -> float:
    """Two epochs, or a fifth of fewer than ten, or progressive shrinking's published share (180 of 605), or none."""
    epochs = float(given.get("epochs", 30))
    if given.get("recipe") == "progressive":
        return 0.3 * epochs
    return 0.0 if given.get("recipe") == "single-stage" else min(2.0, epochs / 5)


class DetectionConfig(BaseModel):
    """What only detectors have: weights of the loss, and how pictures are changed with their boxes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: LossConfig = LossConfig()
    jitter: JitterConfig = JitterConfig()


class TrainingConfig(BaseModel):
    """A training run; everything that its result depends on.

    For ``full_epochs`` only the largest subnet is trained; what follows is the ``recipe``'s
    (:mod:`hwnas.training.recipes`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    init: str | None = None
    """Weights to begin with: ``efficientnet-lite0``, or the directory of a supernet; by default random ones."""
    recipe: RecipeName = "sandwich"
    epochs: float = Field(default=30, gt=0, le=MOST_EPOCHS)
    full_epochs: float = Field(default_factory=_full_epochs, ge=0, le=MOST_EPOCHS)
    """Like ``epochs`` and ``warmup_epochs`` not necessarily whole; a run has a whole number of steps, at least one."""
    batch_size: int = Field(default=128, ge=1)
    """Images a step, over all processes together."""
    random_subnets: int = Field(default=2, ge=0)
    subnet_pool: int = Field(default=0, ge=0)
    """Random subnets come from a pool of so many, drawn anew every ``pool_steps`` steps, so that a GPU can replay what
    it has recorded of them (:mod:`hwnas.training.graphs`); 0: each step draws from the whole space."""
    pool_steps: int = Field(default=256, ge=1)
    resolution: Literal["subnet", "step"] = "subnet"
    """Whether each subnet has its own, or one is drawn a step for all of its subnets (Cai et al. 2020, Sec. 3.3)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0, le=MOST)
    learning_rate_floor: float = Field(default=0.0, ge=0, lt=1)
    """Share of the learning rate below which it does not fall (constant ending, Yu et al. 2020, Sec. 3.1)."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate from each block to the one before it (Howard and Ruder 2018, Sec. 3.2)."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-5, ge=0, le=MOST_DECAY)
    """Not applied to biases, norms and kernel transforms."""
    warmup_epochs: float = Field(default=1.0, ge=0, le=MOST_EPOCHS)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    drop_connect: float = Field(default=0.0, ge=0, lt=1)
    """Probability that the largest subnet's last residual is left out for an image; it rises from 0 with depth."""
    teacher: str | None = None
    """``efficientnet-lite2``, or the directory of a supernet whose largest subnet teaches; by default the recipe's own
    teacher does."""
    distillation: float = Field(default=1.0, ge=0, le=1)
    """Weight of the teacher's soft labels in the loss of those that it teaches; the rest is cross entropy."""
    divergence: Literal["kl", "alpha"] = "kl"
    """From the teacher's soft labels (:mod:`hwnas.training.losses`)."""
    alpha_min: float = Field(default=-1.0, lt=0, ge=-MOST_ALPHA)
    alpha_max: float = Field(default=1.0, gt=0, le=MOST_ALPHA)
    alpha_clip: float = Field(default=5.0, gt=0, le=MOST)
    gradient_clip: float = Field(default=5.0, gt=0, le=MOST)
    """Largest L2 norm of the gradient."""
    ema_decay: float = Field(default=0.9995, ge=0, lt=1)
    """Decay a step of the moving average of the weights, which is what is saved; 0: no averaging."""
    augmentation: AugmentationConfig = AugmentationConfig()
    detection: DetectionConfig = DetectionConfig()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    checkpoint_steps: int = Field(default=200, ge=1)
    evaluate_epochs: int = Field(default=1, ge=1)
    """Epochs between two evaluations of the largest and the smallest subnet on the validation split."""

    @model_validator(mode="after")
    def _fit_the_recipe(self) -> TrainingConfig:
        if self.recipe == "single-stage" and self.full_epochs:
            raise ValueError("a single-stage training has no phase of the largest subnet alone; set full_epochs to 0")
        if self.recipe == "progressive" and not (0 < self.full_epochs < self.epochs):
            raise ValueError("progressive shrinking begins with a full network; set full_epochs between 0 and epochs")
        if self.recipe == "progressive" and not self.random_subnets:
            raise ValueError("progressive shrinking trains random subnets alone; set random_subnets to 1 or more")
        if 0 < self.subnet_pool < self.random_subnets:
            raise ValueError(f"a pool of {self.subnet_pool} has no {self.random_subnets} random subnets; enlarge it")
        if self.subnet_pool and self.resolution == "step":
            raise ValueError("a pool's subnets have resolutions of their own; set resolution to subnet, or no pool")
        return self

    def require_subnets(self) -> None:
        """Refuse, of a supernet, a phase of the largest subnet alone that is the whole training.

        Raises:
            UserError: it is so.
        """
        if self.full_epochs >= self.epochs:
            raise UserError(
                f"All {self.epochs:g} epochs would train the largest subnet alone (full_epochs {self.full_epochs:g}), "
                "and no other would learn; set full_epochs below epochs, or leave it out."
            )

    def without_effect(self) -> list[str]:
        """What is not at its default and does nothing beside the other settings, a sentence each."""
        unlearned = self.teacher is not None and self.distillation == 1
        idle = {
            "momentum": ("with optimizer adamw", self.optimizer == "adamw"),
            **dict.fromkeys(("alpha_min", "alpha_max", "alpha_clip"), ("with divergence kl", self.divergence == "kl")),
            "pool_steps": ("without a subnet_pool", not self.subnet_pool),
            "label_smoothing": ("where a teacher's soft labels are all that is learned (distillation 1)", unlearned),
        }
        return [
            f"The training setting '{name}' does nothing {where}."
            for name, (where, is_idle) in idle.items()
            if is_idle and getattr(self, name) != TrainingConfig.model_fields[name].default
        ]
