"""An ONNX file that is to be bundled, and what it says of itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import onnx
from onnx import ModelProto, ValueInfoProto, helper

from hwnas.data import Dataset
from hwnas.deploy.manifest import Limits, TensorEntry
from hwnas.errors import BadFileError, UserError
from hwnas.export.classes import require_classes
from hwnas.export.metadata import PREFIX
from hwnas.export.scoring import Sample, hits, logits
from hwnas.progress import Progress


@dataclass(frozen=True)
class BundledNetwork:
    """A network that is to be bundled: its ONNX file's content, and what is known of it."""

    id: str
    content: bytes
    limits: Limits
    accuracy: float | None = None
    expected_ms: float | None = None

    @cached_property
    def model(self) -> ModelProto:
        """The ONNX model."""
        return onnx.load_model_from_string(self.content)

    @property
    def input(self) -> TensorEntry:
        """Its one static input.

        Raises:
            UserError: it has several, or one of unknown size.
        """
        inputs = [_tensor(value) for value in self.model.graph.input]
        if len(inputs) != 1 or inputs[0] is None:
            raise UserError(f"model {self.id} does not have one input of static shape; export it with such.")
        return inputs[0]

    @property
    def outputs(self) -> tuple[TensorEntry, ...]:
        """Its outputs, which are static as well."""
        outputs = [_tensor(value) for value in self.model.graph.output]
        if None in outputs:
            raise UserError(f"model {self.id} has an output of unknown shape; export it with static shapes.")
        return tuple(output for output in outputs if output is not None)

    @property
    def fed_like(self) -> tuple[Any, ...]:
        """What whoever feeds it must know; networks that are equal in it can stand in for each other."""
        return (self.input, self.outputs, *(self.says(name) for name in ("class_names", "mean", "std")))

    def says(self, name: str) -> Any:
        """What the model says of itself (``class_names``, ``mean`` …), ``None`` where it does not.

        Raises:
            BadFileError: that is not JSON.
        """
        properties = {entry.key: entry.value for entry in self.model.metadata_props}
        text = properties.get(PREFIX + name)
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise BadFileError(f"model {self.id}: {PREFIX}{name} is not JSON ({error}); export it again.") from error


def network_id(text: str) -> str:
    """A name for a model that a bundle takes: of an architecture's id or a file's stem."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64].rstrip("-")
    return plain or "model"


def validation_sample(network: BundledNetwork, dataset: Dataset) -> Sample:
    """A data set's validation images as a network takes them.

    Raises:
        UserError: it takes no pictures, has another number of classes, or is no classifier.
    """
    shape = network.input.shape
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise UserError(f"model {network.id} takes {list(shape)}, not pictures [batch, 3, r, r]; leave --data out.")
    require_classes(f"Model {network.id}", [output.shape for output in network.outputs], dataset)
    mean, std = network.says("mean") or dataset.mean, network.says("std") or dataset.std
    return Sample("validation", dataset.validation, tuple(mean), tuple(std))


def scored(network: BundledNetwork, dataset: Dataset, progress: Progress) -> BundledNetwork:
    """The network with its accuracy, on a data set's validation images where it is not known yet.

    Raises:
        UserError: as :func:`validation_sample`.
        ExportError: what it answers is not finite.
    """
    if network.accuracy is not None:
        return network
    sample = validation_sample(network, dataset)
    found = hits(logits(network.model, sample, progress, f"accuracy of {network.id}"), sample)
    return replace(network, accuracy=float(found.mean()))


def _tensor(value: ValueInfoProto) -> TensorEntry | None:
    kind = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in kind.shape.dim)
    if not shape or 0 in shape:
        return None
    return TensorEntry(name=value.name, dtype=helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape=shape)
