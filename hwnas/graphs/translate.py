"""From an ONNX model to nodes and parameters: what a device without ONNX is sent.

The operators are those that the exports of our spaces, MobileNets and EfficientNet-Lite consist of, in FP32 and with
static shapes.  Whatever follows from constants is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto, load_from_string, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from hwnas.graphs.translations import (
    TRANSLATIONS,
    Array,
    UntranslatableError,
    attributes_of,
    described,
    float32_array,
)
from hwnas.spaces.nodes import Attribute, Node

__all__ = ["NodeModel", "Translation", "UntranslatableError", "translate"]

Shape = list[int]


@dataclass(frozen=True)
class NodeModel:
    """A model as nodes.

    Attributes:
        nodes: in an order in which they can be executed; parameters with one element are spread to their shape.
        parameters: float32, by name (``<node>.<role>``).
        inputs, outputs: shapes by name, the batch first.
    """

    nodes: tuple[Node, ...]
    parameters: dict[str, Array]
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


def translate(content: bytes) -> NodeModel:
    """The nodes of an ONNX model.

    Raises:
        UntranslatableError: it is no ONNX model, its shapes are not static, it is not in FP32, or it has an operator
            (or a form of one) that no node stands for.
    """
    return Translation(_read(content)).result()


class Translation:
    """A model under translation: shapes of all tensors, and the values of those that are constant."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._graph = graph
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        values = (*graph.input, *graph.value_info, *graph.output)
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self.shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}
        self._same: dict[str, str] = {}
        self._names: set[str] = set()
        self.nodes: list[Node] = []
        self.parameters: dict[str, Array] = {}

    def result(self) -> NodeModel:
        """The translated model.

        Raises:
            UntranslatableError: see :func:`translate`.
        """
        for node in self._graph.node:
            self._translate(node)
        inputs = [value.name for value in self._graph.input if value.name not in self.constants]
        outputs = [value.name for value in self._graph.output]
        for name in (*inputs, *outputs):
            self._require_static(name, f"tensor '{name}'")
        unmade = [name for name in outputs if name in self.constants or name in self._same]
        if unmade:
            raise UntranslatableError(f"output '{unmade[0]}' is not what an operator computes")
        return NodeModel(
            tuple(self.nodes),
            self.parameters,
            {name: self.shapes[name] for name in inputs},
            {name: self.shapes[name] for name in outputs},
        )

    def append(
        self,
        node: NodeProto,
        attributes: Mapping[str, Attribute] | None = None,
        parameters: Mapping[str, npt.NDArray[np.generic]] | None = None,
    ) -> None:
        """A node that reads what is not constant of ``node``'s inputs."""
        output = node.output[0]
        where = described(node)
        self._require_static(output, where)
        name = node.name or output
        if name in self._names:
            name = output
        self._names.add(name)
        arrays = {role: float32_array(array, where) for role, array in (parameters or {}).items()}
        self.parameters |= {f"{name}.{role}": _compact(array) for role, array in arrays.items()}
        self.nodes.append(
            Node(
                name=name,
                op=node.op_type,
                inputs=[self.source(tensor) for tensor in node.input if tensor and tensor not in self.constants],
                output=output,
                attributes=dict(attributes or {}),
                parameters={role: list(array.shape) for role, array in arrays.items()},
                shape=self.shapes[output][1:],
            )
        )

    def source(self, tensor: str) -> str:
        """The tensor of the same content that an operator computes."""
        return self._same.get(tensor, tensor)

    def constant(self, node: NodeProto, position: int) -> npt.NDArray[np.generic] | None:
        """The value of an input; ``None`` where it is left out.

        Raises:
            UntranslatableError: it is computed when the model runs.
        """
        if position >= len(node.input) or not node.input[position]:
            return None
        tensor = node.input[position]
        if tensor not in self.constants:
            raise UntranslatableError(f"{described(node)} takes '{tensor}', which is no constant")
        return self.constants[tensor]

    def required(self, node: NodeProto, position: int) -> npt.NDArray[np.generic]:
        """The value of an input that is not left out."""
        value = self.constant(node, position)
        if value is None:
            raise UntranslatableError(f"{described(node)} lacks its input {position}")
        return value

    def _translate(self, node: NodeProto) -> None:
        if node.op_type == "Shape":
            self.constants[node.output[0]] = self._shape(node)
        elif all(tensor in self.constants for tensor in node.input if tensor):
            self.constants |= self._computed(node)
        elif node.op_type in _PASSED:
            self._same[node.output[0]] = self.source(node.input[0])
        elif node.domain in ("", "ai.onnx") and node.op_type in TRANSLATIONS:
            TRANSLATIONS[node.op_type](self, node)
        else:
            raise UntranslatableError(f"{described(node)} is none of the operators that nodes stand for")

    def _shape(self, node: NodeProto) -> npt.NDArray[np.int64]:
        self._require_static(node.input[0], described(node))
        stated = attributes_of(node)
        return np.array(self.shapes[node.input[0]][stated.get("start", 0) : stated.get("end")], np.int64)

    def _computed(self, node: NodeProto) -> dict[str, npt.NDArray[np.generic]]:
        """The outputs of a node that reads constants alone."""
        feeds = {tensor: self.constants[tensor] for tensor in node.input if tensor}
        try:
            values = ReferenceEvaluator(node, opsets=self._opsets).run(None, feeds)
        except Exception as error:  # whatever an operator's reference implementation raises
            raise UntranslatableError(f"{described(node)} of constants cannot be computed ({error})") from error
        return dict(zip(node.output, values, strict=False))

    def _require_static(self, tensor: str, where: str) -> None:
        if self._types.get(tensor) != TensorProto.FLOAT:
            raise UntranslatableError(f"{where} does not give FP32, from which each precision is made on the device")
        if not all(self.shapes[tensor]):
            raise UntranslatableError(f"{where} has no static shape")


def _read(content: bytes) -> ModelProto:
    try:
        return shape_inference.infer_shapes(load_from_string(content), data_prop=True)
    except DecodeError as error:
        raise UntranslatableError(f"its {len(content)} bytes are no ONNX model ({error})") from error
    except shape_inference.InferenceError as error:
        raise UntranslatableError(f"its shapes cannot be inferred ({error})") from error


def _compact(array: Array) -> Array:
    """One element where all are equal, so that large constants stay small on their way."""
    flat = array.reshape(-1)
    return flat[:1].reshape([1] * array.ndim) if flat.size > 1 and (flat == flat[0]).all() else array


_PASSED = frozenset({"Identity", "Dropout"})
"""Operators that give what they take when a model is only executed."""
