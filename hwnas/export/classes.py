"""Whether a model is for a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hwnas.data import Dataset
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset
from hwnas.detection.forms import classes_of, form_of
from hwnas.errors import UserError


def require_fit(subject: str, outputs: Mapping[str, Sequence[int]], dataset: AnyDataset) -> None:
    """Refuse a model that is for another task than a data set, or for another number of classes.

    Args:
        subject: the model, as messages begin with it.
        outputs: their shapes by name.

    Raises:
        UserError: it is.
    """
    if isinstance(dataset, DetectionDataset):
        _require_detector(subject, outputs, dataset)
    else:
        require_classes(subject, list(outputs.values()), dataset)


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
    _require_number(subject, outputs[0][-1], dataset)


def _require_detector(subject: str, outputs: Mapping[str, Sequence[int]], dataset: DetectionDataset) -> None:
    if form_of(outputs) is None:
        raise UserError(
            f"{subject} gives {', '.join(outputs)}, and data set {dataset.name} holds pictures with boxes; give a "
            "detector as `hwnas export` writes it, or no data set."
        )
    classes = classes_of(outputs)
    if classes is not None:
        _require_number(subject, classes, dataset)


def _require_number(subject: str, classes: int, dataset: AnyDataset) -> None:
    if classes != dataset.num_classes:
        raise UserError(
            f"{subject} has {classes} classes, data set {dataset.name} {dataset.num_classes}; give the data set "
            "that it was trained for."
        )
