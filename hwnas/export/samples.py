"""Which images of a data set a quantisation uses for what."""

from __future__ import annotations

import json
from typing import cast

import torch
from onnx import ModelProto
from torch import Tensor

from hwnas.data import Dataset, ImageSet
from hwnas.data.dataset import Triple
from hwnas.errors import UserError
from hwnas.export.classes import require_classes
from hwnas.export.metadata import PREFIX
from hwnas.export.quantization import Images
from hwnas.export.scoring import Sample


def quantization_images(
    model: ModelProto, dataset: Dataset, *, calibration: int = 512, choice: int = 1000, scored: int | None = None
) -> Images:
    """Calibration and training images of the training split, those of the choice of validation, scored ones of test.

    Args:
        model: whose metadata say how pixels are normalised; the data set says so where they do not.
        calibration, choice, scored: how many, spread evenly over their splits; all where there are fewer, or None.

    Raises:
        UserError: a number is below 1, or the model has another number of classes or is no classifier.
    """
    for name, count in {"calibration": calibration, "choice": choice, "scored": scored}.items():
        if count is not None and count < 1:
            raise UserError(f"There are no {name} images with {count} of them; give at least 1.")
    outputs = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.output]
    require_classes("The model", outputs, dataset)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    mean = _triple(properties.get(PREFIX + "mean"), dataset.mean)
    std = _triple(properties.get(PREFIX + "std"), dataset.std)

    def sample(name: str, images: ImageSet, count: int | None) -> Sample:
        return Sample(name, images if count is None else spread(images, count), mean, std)

    return Images(
        calibration=sample("training", dataset.recalibration, calibration),
        choice=sample("validation", dataset.validation, choice),
        scored=sample("test", dataset.test, scored),
        training=sample("training", dataset.train, None),
    )


def _triple(text: str | None, default: Triple) -> Triple:
    return default if text is None else cast(Triple, tuple(json.loads(text)))


def spread(images: ImageSet, count: int) -> ImageSet:
    """At most ``count`` images at equal distances, since some data sets are sorted by class."""
    rows = spread_rows(len(images), count)
    return ImageSet(images.pixels[rows], images.labels[rows])


def spread_rows(total: int, count: int) -> Tensor:
    """At most ``count`` of so many rows at equal distances, int64."""
    return torch.linspace(0, total - 1, min(count, total)).round().long()
