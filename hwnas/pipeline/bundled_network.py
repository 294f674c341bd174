"""An ONNX file that is to be bundled, and what it says of itself."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, ValueInfoProto, helper

from hwnas.deploy.manifest import Limits, TensorEntry
from hwnas.detection.forms import Form, form_of
from hwnas.errors import BadFileError, UserError
from hwnas.export.metadata import PREFIX
from hwnas.export.scoring import session

Array = npt.NDArray[Any]


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
        """Its outputs, which are static as well, and of each input of a batch.

        Raises:
            UserError: one is not.
        """
        values, batch = self.model.graph.output, self.input.shape[0]
        outputs = tuple(tensor for value in values if (tensor := _tensor(value)) is not None)
        if len(outputs) < len(values):
            raise UserError(f"model {self.id} has an output of unknown shape; export it with static shapes.")
        for output in outputs:
            if output.shape[0] != batch:
                raise UserError(
                    f"model {self.id} has an output {output.name} of {list(output.shape)}, not one of each of its "
                    f"{batch} input(s); leave it out of the model."
                )
        return outputs

    @cached_property
    def detections(self) -> Form | None:
        """The form in which it gives detections; ``None``: it is no detector."""
        return form_of([output.name for output in self.outputs])

    def run(self, inputs: Array) -> dict[str, Array]:
        """Its outputs by name, [n, ...], for inputs [n, ...], by ONNX Runtime on one thread of this machine."""
        entry, names = self.input, [output.name for output in self.outputs]
        batch = entry.shape[0]
        padded = np.concatenate([inputs, np.zeros((-len(inputs) % batch, *inputs.shape[1:]), inputs.dtype)])
        pieces = [
            self._session.run(names, {entry.name: padded[row : row + batch]}) for row in range(0, len(padded), batch)
        ]
        columns = zip(names, zip(*pieces, strict=True), strict=True)
        return {name: np.concatenate(column)[: len(inputs)] for name, column in columns}

    @cached_property
    def _session(self) -> Any:
        return session(self.model)

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


def _tensor(value: ValueInfoProto) -> TensorEntry | None:
    kind = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in kind.shape.dim)
    if not shape or 0 in shape:
        return None
    return TensorEntry(name=value.name, dtype=helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape=shape)
