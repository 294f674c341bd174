"""An ONNX model as the checks see it: every node with its place, every tensor with its type and shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from hwnas.errors import BadFileError
from hwnas.files import read_bytes

ONNX_DOMAINS = ("", "ai.onnx")
_SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
Dimensions = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor's element type (ONNX's number) and dimensions; None where the model and inference do not tell."""

    elem_type: int
    dims: Dimensions | None

    @property
    def static_elements(self) -> int | None:
        """How many elements it has, if every dimension is a number."""
        if self.dims is None or not all(isinstance(side, int) for side in self.dims):
            return None
        return int(np.prod([int(side) for side in self.dims if side is not None], dtype=np.int64))


@dataclass(frozen=True)
class Place:
    """A node and the subgraphs that it is in, such as ``If.then_branch``; none for the main graph."""

    node: NodeProto
    inside: tuple[str, ...] = ()


class Model:
    """A model, its external data where they are, and what follows from it."""

    def __init__(self, proto: ModelProto, path: Path) -> None:
        self.proto = proto
        self.path = path

    @property
    def graph(self) -> GraphProto:
        """The main graph."""
        return self.proto.graph

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every node, those of subgraphs and of local functions too, in order."""
        return tuple(_walk(self.graph, ()))

    @cached_property
    def opset(self) -> int:
        """Of ONNX's own operators; 0 where the model imports none."""
        return max((entry.version for entry in self.proto.opset_import if entry.domain in ONNX_DOMAINS), default=0)

    @cached_property
    def functions(self) -> frozenset[tuple[str, str]]:
        """Domain and name of the model's local functions."""
        return frozenset((function.domain, function.name) for function in self.proto.functions)

    @cached_property
    def initializers(self) -> dict[str, TensorProto]:
        """The main graph's stored tensors, and those of Constant nodes, by name."""
        found = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            value = next((a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"), None)
            if value is not None:
                found[node.output[0]] = value
        return found

    @cached_property
    def inputs(self) -> tuple[ValueInfoProto, ...]:
        """Those that a caller must give."""
        stored = {tensor.name for tensor in self.graph.initializer}
        return tuple(value for value in self.graph.input if value.name not in stored)

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        """By which node of the main graph each tensor is made."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Type and shape of each tensor of the main graph, as far as they can be inferred."""
        try:
            inferred = onnx.shape_inference.infer_shapes(self.proto, data_prop=True).graph
        except (onnx.shape_inference.InferenceError, ValueError):
            inferred = self.graph
        found = {value.name: _tensor(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
        stored = {name: Tensor(t.data_type, tuple(t.dims)) for name, t in self.initializers.items()}
        return found | stored

    def is_constant(self, name: str) -> bool:
        """Whether a tensor's value is fixed in the model, by itself or as computed from what is."""
        if name in self.initializers:
            return True
        node = self.producers.get(name)
        return node is not None and bool(node.input) and all(self.is_constant(part) for part in node.input if part)

    def value(self, name: str) -> npt.NDArray[np.generic] | None:
        """A stored tensor's value; None where it is not stored, or its external data are missing."""
        tensor = self.initializers.get(name)
        if tensor is None:
            return None
        try:
            return numpy_helper.to_array(tensor, base_dir=str(self.path.parent))
        except (OSError, ValueError, TypeError, onnx.checker.ValidationError):
            return None


def read(path: Path) -> Model:
    """The model in a file, its external data left where they are.

    Raises:
        BadFileError: there is no such file, or it is not ONNX.
    """
    try:
        proto = onnx.load_model_from_string(read_bytes(path, what="model"))
    except DecodeError as error:
        raise BadFileError(f"model {path} is not ONNX ({error}); export it again.") from error
    if not proto.graph.node:
        raise BadFileError(f"model {path} has no nodes; export it again.")
    return Model(proto, path)


def attributes(node: NodeProto) -> dict[str, object]:
    """The attributes that a node states, by name; texts as bytes."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _walk(graph: GraphProto, inside: tuple[str, ...]) -> Iterator[Place]:
    for node in graph.node:
        yield Place(node, inside)
        for attribute in node.attribute:
            if attribute.type in _SUBGRAPHS:
                for subgraph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                    yield from _walk(subgraph, (*inside, f"{node.op_type}.{attribute.name}"))


def _tensor(value: ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return Tensor(kind.elem_type, None)
    return Tensor(kind.elem_type, tuple(_side(dimension) for dimension in kind.shape.dim))


def _side(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dimension.HasField("dim_value") and dimension.dim_value > 0:
        return int(dimension.dim_value)
    return dimension.dim_param or None
