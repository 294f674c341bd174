"""How well a network classifies the images of a split, as plain data: stored with a benchmark, drawn in a report."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassScores(_Part):
    """Of one class.

    Attributes:
        images: that are of the class.
        precision: share of the images called so that are so; None if none was called so.
        recall: share of ``images`` that were called so; None if there are none.
        f1: harmonic mean of the two, 2 TP / (2 TP + FP + FN); None if the class occurs neither way.
    """

    name: str
    images: Count
    precision: Share | None
    recall: Share | None
    f1: Share | None


class CalibrationBin(_Part):
    """The images whose largest softmax lies in an interval of [0, 1]; both means are None where there are none."""

    images: Count
    confidence: Share | None
    """Mean of the largest softmax."""
    accuracy: Share | None
    """Share of the images that are classified rightly."""


class Confusion(_Part):
    """How many images of the class numbered ``actual`` were called ``called``, one at least."""

    actual: Count
    called: Count
    images: Annotated[int, Field(ge=1)]


class Classification(_Part):
    """A network's answers to ``images`` labelled images; shares are fractions.

    Attributes:
        split: that the images are of.
        top1: share of the images whose largest logit is that of their class.
        top5: the same for the five largest; None with five classes or fewer.
        precision, recall, f1: macro averages, each class that has images or was called counting the same, one for
            which the quantity is not defined as 0 (scikit-learn's convention).
        calibration_error: expected calibration error, mean over the images of |accuracy - confidence| of their bin
            (Guo et al. 2017, "On Calibration of Modern Neural Networks", Eq. 3).
        bins: of equal width over [0, 1], from the least confident.
        classes: in the order of their numbers.
        confusion: the entries of the confusion matrix that are not 0, row by row.
    """

    split: str
    images: Annotated[int, Field(ge=1)]
    top1: Share
    top5: Share | None
    precision: Share
    recall: Share
    f1: Share
    calibration_error: Share
    bins: tuple[CalibrationBin, ...]
    classes: tuple[ClassScores, ...]
    confusion: tuple[Confusion, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        rows: Counter[int] = Counter()
        for entry in self.confusion:
            rows[entry.actual] += entry.images
        if rows != {number: scores.images for number, scores in enumerate(self.classes) if scores.images}:
            raise ValueError("a row of the confusion matrix must have as many images as its class")
        if any(entry.called >= len(self.classes) for entry in self.confusion):
            raise ValueError("the confusion matrix names a class that there is not")
        if not self.images == rows.total() == sum(bin_.images for bin_ in self.bins):
            raise ValueError("the confusion matrix and the bins must each hold all images")
        return self

    @property
    def confidence(self) -> float:
        """Mean of the largest softmax over all images."""
        return sum(bin_.images * (bin_.confidence or 0.0) for bin_ in self.bins) / self.images

    @property
    def mistakes(self) -> list[Confusion]:
        """What was called wrongly, the most frequent first."""
        return sorted((c for c in self.confusion if c.actual != c.called), key=lambda c: -c.images)
