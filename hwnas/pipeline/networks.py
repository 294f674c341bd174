"""From a supernet to ONNX files of its subnets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from onnx import ModelProto

from hwnas.data import Dataset, to_input
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset, require_task
from hwnas.detection.forms import Form
from hwnas.errors import BadFileError, UserError
from hwnas.export import ExportedModel, export_onnx, model_metadata
from hwnas.export.detections import with_detections
from hwnas.files import read_json
from hwnas.graphs import Remainder
from hwnas.pipeline.precision import in_precision
from hwnas.search.record import read_evaluations, searched_space
from hwnas.spaces import Architecture, Space, precision_of, without_precision
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import (
    ElasticNetwork,
    NetworkRecord,
    PlainNetwork,
    load_record,
    load_supernet,
)
from hwnas.training.validation import recalibrated

PARITY_IMAGES = 64


def open_supernet(directory: Path, space: Space, dataset: AnyDataset) -> ElasticNetwork:
    """Read trained weights and check that they are of this space, for its task and for these classes.

    Raises:
        BadFileError: the checkpoint is missing or corrupt.
        UserError: it is of another space, or was trained on other classes, or the data is for another task.
    """
    require_task(space, dataset)
    record = load_record(directory)
    if record.space != space.name:
        raise UserError(f"The supernet in {directory} is of space {record.space}, not {space.name}; give another.")
    if record.dataset.class_names != dataset.class_names:
        raise UserError(
            f"The supernet in {directory} was trained on {record.dataset.name}, whose classes are not those of "
            f"{dataset.name}; train one for this data with `hwnas train`."
        )
    return load_supernet(directory, space)[0]


def ready_subnet(supernet: ElasticNetwork, architecture: Architecture, dataset: AnyDataset) -> PlainNetwork:
    """The subnet of an architecture with weights of its own and batch norms recalibrated."""
    return recalibrated(supernet.extract(architecture), architecture.resolution, dataset, supernet.recalibration)


def export_subnet(
    supernet: ElasticNetwork,
    architecture: Architecture,
    dataset: AnyDataset,
    path: Path,
    precision: str = "fp32",
    remainder: Remainder = "fp32",
    detections: Form = "maps",
) -> ExportedModel:
    """Write the subnet of an architecture as ONNX, compared with torch on real images in FP32.

    Args:
        precision: unless the architecture chooses one; see :func:`hwnas.pipeline.precision.in_precision`.
        remainder: with ``int8``, of what is not quantised.
        detections: what a detector's model gives, see :func:`hwnas.export.detections.with_detections`.

    Raises:
        ParityError: the exported model computes something else.
        ExportError: it cannot be converted to the precision.
        UserError: detections are wanted of a classifier, or a detector in another precision than FP32.
    """
    plain, chosen = without_precision(architecture), precision_of(architecture) or precision
    _require_form(dataset, chosen, detections)
    network = ready_subnet(supernet, plain, dataset)
    return _export(network, plain.resolution, plain, dataset, path, chosen, remainder, detections)


def export_network(
    network: PlainNetwork,
    record: NetworkRecord,
    dataset: AnyDataset,
    path: Path,
    precision: str = "fp32",
    remainder: Remainder = "fp32",
    detections: Form = "maps",
) -> ExportedModel:
    """Write a network of :func:`hwnas.supernet.load_network` as ONNX, as :func:`export_subnet` does.

    Raises:
        UserError: it knows other classes than the data set has, or is for another task; or as of
            :func:`export_subnet`.
        ParityError, ExportError: as of :func:`export_subnet`.
    """
    _require_form(dataset, precision, detections)
    require_task(record.single_space, dataset)
    if record.dataset.class_names != dataset.class_names:
        raise UserError(
            f"The network was trained on {record.dataset.name}, whose classes are not those of {dataset.name}; give "
            "the data that it was trained on."
        )
    return _export(network, record.resolution, record.identity, dataset, path, precision, remainder, detections)


def export_yardstick(
    resolution: int, dataset: Dataset, path: Path, precision: str = "fp32", remainder: Remainder = "fp32"
) -> ExportedModel:
    """Write MobileNetV3-Small as ONNX with random weights: its latency is the yardstick, it is not trained."""
    torch.manual_seed(0)
    network = PlainNetwork(mobilenet_v3_small(resolution, dataset.num_classes)).eval()
    return _export(network, resolution, None, dataset, path, precision, remainder)


def _require_form(dataset: AnyDataset, precision: str, detections: Form) -> None:
    """What cannot be exported is refused before anything is computed."""
    if isinstance(dataset, DetectionDataset) and precision != "fp32":
        raise UserError(f"Detectors are exported in fp32, not in {precision}; leave out the precision.")
    if isinstance(dataset, Dataset) and detections != "maps":
        raise UserError(f"A classifier detects nothing; leave out --detections {detections}.")


def _export(
    network: PlainNetwork,
    resolution: int,
    architecture: Architecture | None,
    dataset: AnyDataset,
    path: Path,
    precision: str,
    remainder: Remainder,
    detections: Form = "maps",
) -> ExportedModel:
    images = to_input(dataset.validation.pixels[:PARITY_IMAGES], resolution, dataset.mean, dataset.std)
    exact = precision == "fp32"
    metadata = model_metadata(
        architecture=architecture,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        extra={} if exact else {"precision": precision},
    )
    convert: Callable[[ModelProto], ModelProto] = partial(with_detections, form=detections)
    if not exact:
        assert isinstance(dataset, Dataset)
        convert = partial(in_precision, precision=precision, remainder=remainder, dataset=dataset)
    return export_onnx(network, resolution, path, metadata=metadata, images=images, convert=convert)


def read_architecture(space: Space, text: str) -> Architecture:
    """An architecture as users name it.

    Args:
        text: ``largest``, ``smallest``, a JSON file, or ``SEARCH_DIRECTORY:ID`` of an evaluated candidate.

    Raises:
        BadFileError: a file is missing or holds no architecture.
        UserError: the search has no such candidate, or the architecture is of another space.
    """
    if text in ("largest", "smallest"):
        return space.largest if text == "largest" else space.smallest
    directory, _, wanted = text.rpartition(":")
    if directory:
        space = searched_space(Path(directory), space)
        evaluations = read_evaluations(Path(directory), space)
        found = [e.architecture for e in evaluations if e.architecture.id == wanted]
        if not found:
            raise UserError(
                f"The search in {directory} has evaluated no architecture {wanted}; see `evaluations.jsonl`."
            )
        return found[0]
    data = read_json(Path(text), what="architecture")
    try:
        architecture = Architecture.from_json(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFileError(
            f"{text} holds no architecture: an object with 'space' and 'choices' is expected."
        ) from error
    # The canonical order of the choices, whatever the file's: an architecture has one id.
    return space.decode(space.encode([architecture]))[0]
