"""How good a compiled engine is on the test split of a data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hwnas.classification import Classification
from hwnas.data import Dataset
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset
from hwnas.detection.evaluation import evaluate
from hwnas.detection.forms import read_detections
from hwnas.detection.scores import DetectionScores
from hwnas.detection.scoring import PICTURES_AT_ONCE
from hwnas.detection.suppression import Detections
from hwnas.devices import Device, Engine
from hwnas.errors import DeviceError, UserError
from hwnas.progress import Progress
from hwnas.supernet.metrics import ClassificationMeter

IMAGES_AT_ONCE = 500
"""Of a classifier; a detector gives much more of each."""


def classification(
    device: Device, engine: Engine, name: str, dataset: Dataset, resolution: int, progress: Progress
) -> Classification:
    """How the engine classifies the test split.

    Raises:
        DeviceError: a logit is not finite.
    """
    meter = ClassificationMeter(dataset.class_names)
    labels = iter(torch.split(dataset.test.labels, IMAGES_AT_ONCE))
    for outputs in _answers(device, engine, name, dataset, resolution, IMAGES_AT_ONCE, progress):
        (logits,) = outputs.values()
        meter.update(logits, next(labels))
    return meter.result("test")


def detection(
    device: Device, engine: Engine, name: str, dataset: DetectionDataset, resolution: int, progress: Progress
) -> DetectionScores:
    """How the engine detects what is in the test split: what it leaves to do of decoding and NMS is done here.

    Raises:
        DeviceError: an output is not finite.
        UserError: it finds objects of a class that the data set has not, or no object is counted.
    """
    found: list[Detections] = []
    for outputs in _answers(device, engine, name, dataset, resolution, PICTURES_AT_ONCE, progress):
        found += read_detections(outputs, resolution)
    highest = max((int(one.labels.max()) for one in found if len(one.labels)), default=0)
    if highest >= dataset.num_classes:
        raise UserError(
            f"{name} finds objects of a class numbered {highest}, and data set {dataset.name} has "
            f"{dataset.num_classes} classes; give the data set that it was trained for."
        )
    return evaluate(found, dataset.test, resolution)


def _answers(
    device: Device, engine: Engine, name: str, dataset: AnyDataset, resolution: int, size: int, progress: Progress
) -> Iterator[dict[str, Tensor]]:
    """The engine's outputs for the images of the test split, so many at a time."""
    pixels = dataset.test.pixels
    progress.start(f"accuracy of {name}", len(pixels), unit="images")
    for images in dataset.inputs(pixels, resolution, size):
        outputs = device.infer_all(engine, images.numpy())
        if not all(np.isfinite(output).all() for output in outputs.values()):
            what = "logits" if isinstance(dataset, Dataset) else "answers"
            raise DeviceError(
                f"the engine of {name} on '{device.target.name}' gives {what} that are not finite; its precision "
                f"({engine.options.precision}) does not suit the network."
            )
        yield {output: torch.from_numpy(array) for output, array in outputs.items()}
        progress.advance(len(images))
    progress.finish()
