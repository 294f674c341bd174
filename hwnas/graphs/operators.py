"""What the operators of an ONNX model compute and move, for models of what a device takes for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import NodeProto, ValueInfoProto, load_from_string, shape_inference

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operator:
    """One node that computes when the model runs; sizes are in elements."""

    op: str
    """Its ONNX operator."""
    inputs: tuple[str, ...]
    """The tensors that it reads, parameters excepted."""
    output: str
    macs: int
    """Multiply-accumulates."""
    weights: int
    """Of all its parameters."""
    kernel: int = 1
    """Side of a convolution's window."""
    groups: int = 1
    """Of a convolution."""


@dataclass(frozen=True)
class Operators:
    """The operators of a model in the order of execution, and the static shapes of all tensors."""

    operators: tuple[Operator, ...]
    shapes: dict[str, Shape]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def elements(self, tensor: str) -> int:
        """Of a tensor."""
        return math.prod(self.shapes[tensor])

    @cached_property
    def readers(self) -> dict[str, int]:
        """By how many operators, or as an output of the model, each tensor is read."""
        found = dict.fromkeys(self.outputs, 1)
        for operator in self.operators:
            for tensor in operator.inputs:
                found[tensor] = found.get(tensor, 0) + 1
        return found


def read_operators(content: bytes) -> Operators:
    """The operators of a model with static shapes; what has parameters alone as inputs is folded into parameters.

    Raises:
        ValueError: ``content`` is no ONNX model, or a shape in it is not static or cannot be inferred.
    """
    try:
        graph = shape_inference.infer_shapes(load_from_string(content), data_prop=True).graph
    except DecodeError as error:
        raise ValueError(f"its {len(content)} bytes are no ONNX model ({error})") from error
    except shape_inference.InferenceError as error:
        raise ValueError(f"its shapes cannot be inferred ({error})") from error
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    constant = {tensor.name for tensor in graph.initializer}
    operators = []
    for node in graph.node:
        if constant.issuperset(filter(None, node.input)):
            constant.update(node.output)
        else:
            operators.append(_operator(node, shapes, constant))
    inputs = tuple(value.name for value in graph.input if value.name not in constant)
    return Operators(tuple(operators), shapes, inputs, tuple(value.name for value in graph.output))


def _operator(node: NodeProto, shapes: dict[str, Shape], constant: set[str]) -> Operator:
    missing = [name for name in (*filter(None, node.input), node.output[0]) if name not in shapes]
    if missing:
        raise ValueError(f"the shape of tensor '{missing[0]}' at node '{node.name}' is unknown")
    parameters = [shapes[name] for name in node.input if name in constant]
    attributes = {attribute.name: attribute for attribute in node.attribute}
    return Operator(
        op=node.op_type,
        inputs=tuple(name for name in node.input if name and name not in constant),
        output=node.output[0],
        macs=math.prod(shapes[node.output[0]]) * _macs_per_output(node, parameters),
        weights=sum(map(math.prod, parameters)),
        kernel=parameters[0][-1] if node.op_type == "Conv" else 1,
        groups=attributes["group"].i if "group" in attributes else 1,
    )


def _macs_per_output(node: NodeProto, parameters: list[Shape]) -> int:
    if not parameters or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return 0
    weight = parameters[0]
    if node.op_type == "Conv":
        return math.prod(weight[1:])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return weight[-1] if transposed else weight[-2]


def _shape(value: ValueInfoProto) -> Shape:
    shape = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    if not all(shape):
        raise ValueError(f"tensor '{value.name}' has the shape {list(shape)}, which is not static")
    return shape
