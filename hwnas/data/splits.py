"""Which image belongs to which split: stratified, seeded, disjoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwnas.errors import UserError

Indices = NDArray[np.int64]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class SplitConfig(BaseModel):
    """How images are withheld where a data set does not say it itself.

    Attributes:
        validation, test: share of each class's training images (at least one image) that becomes the split.
        recalibration: size of that part of the training split; all of it where it has fewer images.
        seed: of the draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    validation: Fraction = 0.1
    test: Fraction = 0.2
    recalibration: Annotated[int, Field(gt=0)] = 2000
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation} and test {self.test} leave nothing to train on")
        return self


@dataclass(frozen=True)
class Selection:
    """Images of one part of a source: the part's name and sorted positions in it."""

    part: str
    indices: Indices


@dataclass(frozen=True)
class SplitPlan:
    """Which images make up each split.

    Attributes:
        selections: for ``train``, ``validation`` and ``test``; they share no image.
        recalibration: sorted positions within the training split.
    """

    selections: Mapping[str, Selection]
    recalibration: Indices

    def __post_init__(self) -> None:
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
            one, other = self.selections[first], self.selections[second]
            if one.part == other.part and np.intersect1d(one.indices, other.indices).size:
                raise ValueError(f"the splits {first} and {second} share images")


def stratified_sample(labels: Indices, per_class: Sequence[int], rng: np.random.Generator) -> Indices:
    """Draw ``per_class[c]`` of the images of each class ``c`` without replacement, class after class.

    Args:
        labels: int64 [N], the class of each image.

    Returns:
        Sorted positions in ``labels``.

    Raises:
        ValueError: a class has fewer images than asked for.
    """
    drawn = [rng.choice(np.flatnonzero(labels == c), count, replace=False) for c, count in enumerate(per_class)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def plan_splits(
    labels: Mapping[str, Indices], class_names: Sequence[str], config: SplitConfig, *, where: str
) -> SplitPlan:
    """Take the splits that a source has and withhold the others from its training part.

    Args:
        labels: int64 [N] of each part present; ``train`` always, ``validation`` and ``test`` where the source has them.
        where: the source, for messages.

    Raises:
        UserError: a class has too few images to share out.
    """
    rng = np.random.default_rng(config.seed)
    left = np.arange(len(labels["train"]))
    selections = {}
    missing = [name for name in ("test", "validation") if name not in labels]
    _refuse_small_classes(labels["train"], class_names, missing, where)
    total = np.bincount(labels["train"], minlength=len(class_names))
    for still_to_draw, name in zip(range(len(missing), 0, -1), missing, strict=True):
        available = np.bincount(labels["train"][left], minlength=len(class_names)) - still_to_draw
        fraction = getattr(config, name)
        per_class = [_share(*count, fraction) for count in zip(total.tolist(), available.tolist(), strict=True)]
        withheld = left[stratified_sample(labels["train"][left], per_class, rng)]
        selections[name] = Selection("train", withheld)
        left = np.setdiff1d(left, withheld)
    for name in ("validation", "test"):
        if name in labels:
            selections[name] = Selection(name, np.arange(len(labels[name])))
    selections["train"] = Selection("train", left)
    recalibration = _proportional_sample(labels["train"][left], config.recalibration, len(class_names), rng)
    return SplitPlan(selections, recalibration)


def _share(total: int, available: int, fraction: float) -> int:
    """How many images of a class are withheld: none of none, else at least one and at most those available."""
    return min(max(round(fraction * total), 1), available) if total else 0


def _proportional_sample(labels: Indices, size: int, classes: int, rng: np.random.Generator) -> Indices:
    """Draw ``size`` images so that each class keeps its share (largest remainders)."""
    if size >= len(labels):
        return np.arange(len(labels))
    quota = np.bincount(labels, minlength=classes) * (size / len(labels))
    per_class = np.floor(quota).astype(int)
    largest = np.argsort(per_class - quota, kind="stable")[: size - per_class.sum()]
    per_class[largest] += 1
    return stratified_sample(labels, per_class.tolist(), rng)


def _refuse_small_classes(labels: Indices, class_names: Sequence[str], missing: Sequence[str], where: str) -> None:
    needed = 1 + len(missing)
    counts = np.bincount(labels, minlength=len(class_names))
    small = np.flatnonzero((counts > 0) & (counts < needed))
    if small.size:
        raise UserError(
            f"{where}: class '{class_names[small[0]]}' has {counts[small[0]]} training image(s), but {needed} are "
            f"needed to withhold some for {' and '.join(sorted(missing))}; add images or give those splits."
        )
