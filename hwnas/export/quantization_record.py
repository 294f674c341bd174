"""What was done to a model that was quantised, and what that cost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hwnas.export.calibration import Calibration
from hwnas.export.errors import AccuracyLostError
from hwnas.export.scoring import PairedLoss, Sample
from hwnas.files import Document
from hwnas.graphs import Remainder


class Scored(BaseModel):
    """Accuracy of one form of a model on the scored images; ``loss`` is against float32, None for that one itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top1: float
    size_bytes: int
    made_by: str
    loss: PairedLoss | None


class Used(BaseModel):
    """How many images of which split were used for something."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str
    images: int

    @classmethod
    def of(cls, sample: Sample) -> Used:
        """A sample's."""
        return cls(split=sample.name, images=len(sample))


class QuantizationRecord(Document):
    """What was done to a model and what it cost.

    Attributes:
        source_sha256: of the float32 model.
        precision, remainder, calibration, max_drop: as asked for; calibration and remainder None with ``fp16``.
        calibrated_on, chosen_on, scored_on: disjoint images.
        layers: that could be in INT8.
        left: of them, those left in the remainder's precision, the most sensitive first.
        never: weighted operators that cannot be in INT8, gain nothing by it, or that the tool left by its own rules.
        sensitivities: in nats by layer (see :func:`hwnas.export.sensitivity.sensitivities`), the highest first; empty
            where all layers in INT8 kept the limit at once.
        choice_loss: of the model chosen, on the images of the choice.
        scores: on the scored images by precision, ``fp32`` first.
        finetuning: what was done to the weights, empty if nothing.
        kept: whether the loss on the scored images is within ``max_drop``.
    """

    source_sha256: str
    precision: Literal["fp16", "int8"]
    remainder: Remainder | None
    calibration: Calibration | None
    max_drop: float
    calibrated_on: Used | None
    chosen_on: Used | None
    scored_on: Used
    layers: int
    left: tuple[str, ...]
    never: tuple[str, ...]
    sensitivities: dict[str, float]
    choice_loss: PairedLoss | None
    scores: dict[str, Scored]
    finetuning: dict[str, float]
    kept: bool

    def require_kept(self, where: Path) -> None:
        """Refuse a loss that is greater than it may be.

        Args:
            where: the model lies, for the message.

        Raises:
            AccuracyLostError: saying what was reached and what can be done.
        """
        loss = self.scores[self.precision].loss
        if not self.kept and loss is not None:
            raise AccuracyLostError(
                f"{where} loses {loss.points:.2f} points of top-1 where {self.max_drop:g} are allowed, which is the "
                f"best that was found ({len(self.left)} of {self.layers} layers in higher precision); try --finetune, "
                "another --calibration, or a greater --max-drop."
            )
