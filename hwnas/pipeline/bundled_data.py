"""What a data set's validation pictures give to a bundle: inputs, labels, and how good a network is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hwnas.data import Dataset, to_input
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset
from hwnas.detection.evaluation import evaluate
from hwnas.detection.forms import read_detections
from hwnas.detection.suppression import Detections
from hwnas.errors import UserError
from hwnas.export import ExportError
from hwnas.export.classes import require_fit
from hwnas.export.samples import spread_rows
from hwnas.pipeline.bundled_network import BundledNetwork
from hwnas.progress import Progress

Array = npt.NDArray[Any]

_AT_ONCE = 50


@dataclass(frozen=True)
class Pictures:
    """Validation pictures as a network takes them, [n, 3, r, r], and their classes [n]; ``None``: they hold boxes."""

    inputs: Array
    labels: npt.NDArray[np.int64] | None


def validation_pictures(network: BundledNetwork, dataset: AnyDataset, count: int) -> Pictures:
    """At most ``count`` pictures at equal distances over the validation split.

    Raises:
        UserError: the network is not for this data.
    """
    _require_fit(network, dataset)
    rows = spread_rows(len(dataset.validation), count)
    pieces = [_inputs(network, dataset, some) for some in torch.split(rows, _AT_ONCE)]
    labels = dataset.validation.labels[rows].numpy() if isinstance(dataset, Dataset) else None
    return Pictures(np.concatenate(pieces), labels)


def scored(network: BundledNetwork, dataset: AnyDataset, progress: Progress) -> BundledNetwork:
    """The network with its accuracy, on a data set's validation pictures where it is not known yet.

    Top-1 of a classifier, mean average precision of a detector (:func:`hwnas.detection.evaluation.evaluate`).

    Raises:
        UserError: the network is not for this data, or pycocotools is needed and not installed.
        ExportError: what it answers is not finite.
    """
    if network.accuracy is not None:
        return network
    _require_fit(network, dataset)
    right, found = 0, list[Detections]()
    rows, resolution = torch.arange(len(dataset.validation)), network.input.shape[2]
    progress.start(f"accuracy of {network.id}", len(rows), unit="images")
    for some in torch.split(rows, _AT_ONCE):
        answers = network.run(_inputs(network, dataset, some))
        if not all(np.isfinite(values).all() for values in answers.values()):
            raise ExportError(f"Model {network.id} gives answers that are not finite; check its weights.")
        if isinstance(dataset, DetectionDataset):
            found += read_detections({name: torch.from_numpy(array) for name, array in answers.items()}, resolution)
        else:
            (logits,) = answers.values()
            right += int((logits.argmax(axis=-1) == dataset.validation.labels[some].numpy()).sum())
        progress.advance(len(some))
    progress.finish()
    if isinstance(dataset, DetectionDataset):
        return replace(network, accuracy=evaluate(found, dataset.validation, resolution).map)
    return replace(network, accuracy=right / len(rows))


def _require_fit(network: BundledNetwork, dataset: AnyDataset) -> None:
    shape = network.input.shape
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise UserError(f"model {network.id} takes {list(shape)}, not pictures [batch, 3, r, r]; leave --data out.")
    require_fit(f"Model {network.id}", {output.name: output.shape for output in network.outputs}, dataset)


def _inputs(network: BundledNetwork, dataset: AnyDataset, rows: torch.Tensor) -> Array:
    entry = network.input
    mean, std = network.says("mean") or dataset.mean, network.says("std") or dataset.std
    images = to_input(dataset.validation.pixels[rows], entry.shape[2], tuple(mean), tuple(std))
    return images.numpy().astype(entry.dtype, copy=False)
