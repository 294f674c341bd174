"""Whether a model is a classifier for a data set."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.data import Dataset
from hwnas.errors import UserError


def require_classes(subject: str, outputs: Sequence[Sequence[int]], dataset: Dataset) -> None:
    """Refuse a model that does not tell a data set's classes apart.

    Args:
        subject: the model, as messages begin with it.
        outputs: their shapes.

    Raises:
        UserError: it has several outputs, as detectors have, or another number of classes.
    """
    if len(outputs) != 1:
        raise UserError(
            f"{subject} has {len(outputs)} outputs, as detectors have, and data set {dataset.name} is for classifiers, "
            "which have one; give a classifier, or no data set."
        )
    classes = outputs[0][-1]
    if classes != dataset.num_classes:
        raise UserError(
            f"{subject} has {classes} classes, data set {dataset.name} {dataset.num_classes}; give the data set "
            "that it was trained for."
        )
