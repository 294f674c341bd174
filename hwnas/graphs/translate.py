"""From an ONNX model to nodes and parameters: what a device without ONNX is sent.

The operators are those that the exports of our spaces, MobileNets and EfficientNet-Lite consist of, in FP32 and with
static shapes.  Whatever follows from constants is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto, helper, load_from_string, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from hwnas.graphs.nodes import Attribute, Node
from hwnas.graphs.padding import explicit_pads

Array = npt.NDArray[np.float32]
Shape = list[int]


class UntranslatableError(ValueError):
    """A model that cannot be told as nodes; the sentence names operator and node."""


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
    return _Translation(_read(content)).result()


class _Translation:
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
        arrays = {role: _float32(array, where) for role, array in (parameters or {}).items()}
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
        elif node.domain in ("", "ai.onnx") and node.op_type in _TRANSLATIONS:
            _TRANSLATIONS[node.op_type](self, node)
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


def described(node: NodeProto) -> str:
    """An operator and its node, for a sentence."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{operator} '{node.name or node.output[0]}'"


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes that a node states."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def _read(content: bytes) -> ModelProto:
    try:
        return shape_inference.infer_shapes(load_from_string(content), data_prop=True)
    except DecodeError as error:
        raise UntranslatableError(f"its {len(content)} bytes are no ONNX model ({error})") from error
    except shape_inference.InferenceError as error:
        raise UntranslatableError(f"its shapes cannot be inferred ({error})") from error


def _float32(array: npt.NDArray[np.generic], where: str) -> Array:
    if array.dtype != np.float32:
        raise UntranslatableError(f"{where} has {array.dtype} weights; give the FP32 model, which the device converts")
    return np.ascontiguousarray(array, np.float32)


def _compact(array: Array) -> Array:
    """One element where all are equal, so that large constants stay small on their way."""
    flat = array.reshape(-1)
    return flat[:1].reshape([1] * array.ndim) if flat.size > 1 and (flat == flat[0]).all() else array


def _convolution(model: _Translation, node: NodeProto) -> None:
    weight = model.required(node, 1)
    if weight.ndim != 4:
        raise UntranslatableError(f"{described(node)} is not two-dimensional")
    stated = attributes_of(node)
    kernel = list(weight.shape[2:])
    strides, dilations = (stated.get(name, [1, 1]) for name in ("strides", "dilations"))
    sizes = model.shapes[node.input[0]][2:]
    attributes: dict[str, Attribute] = {
        "dilations": dilations,
        "group": stated.get("group", 1),
        "kernel_shape": kernel,
        "pads": explicit_pads(stated, sizes, kernel, strides, dilations),
        "strides": strides,
    }
    bias = model.constant(node, 2)
    model.append(node, attributes, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})


def _pool(model: _Translation, node: NodeProto) -> None:
    stated = attributes_of(node)
    kernel = stated["kernel_shape"]
    strides = stated.get("strides", [1, 1])
    pads = explicit_pads(stated, model.shapes[node.input[0]][2:], kernel, strides, [1, 1])
    counted = stated.get("count_include_pad", 0)
    if len(kernel) != 2 or len(node.output) > 1 or stated.get("dilations", [1, 1]) != [1, 1]:
        raise UntranslatableError(f"{described(node)} is not a plain two-dimensional pool")
    if node.op_type == "AveragePool" and pads[:2] != pads[2:] and not counted:
        raise UntranslatableError(f"{described(node)} averages over unequal padding")
    attributes: dict[str, Attribute] = {
        "ceil_mode": stated.get("ceil_mode", 0),
        "kernel_shape": kernel,
        "pads": pads,
        "strides": strides,
    }
    model.append(node, attributes | ({"count_include_pad": counted} if node.op_type == "AveragePool" else {}))


def _elementwise(model: _Translation, node: NodeProto) -> None:
    """Both operators are commutative: the constant, if there is one, comes last."""
    constant = [tensor for tensor in node.input if tensor in model.constants]
    model.append(node, {}, {"operand": model.constants[constant[0]]} if constant else {})


def _clip(model: _Translation, node: NodeProto) -> None:
    stated = attributes_of(node)  # where older opsets have the bounds
    bounds = {}
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        value = model.constant(node, position)
        bounds[name] = float(stated.get(name, default) if value is None else value.reshape(()))
    model.append(node, {name: bound for name, bound in bounds.items() if math.isfinite(bound)})


def _hard_sigmoid(model: _Translation, node: NodeProto) -> None:
    model.append(node, {"alpha": 0.2, "beta": 0.5} | attributes_of(node))


def _reduce_mean(model: _Translation, node: NodeProto) -> None:
    stated, given = attributes_of(node), model.constant(node, 1)
    axes = stated.get("axes") if given is None else [int(axis) for axis in given.reshape(-1)]
    rank = len(model.shapes[node.input[0]])
    if not axes and stated.get("noop_with_empty_axes", 0):
        raise UntranslatableError(f"{described(node)} reduces nothing")
    chosen = sorted(axis % rank for axis in axes) if isinstance(axes, list) and axes else list(range(rank))
    model.append(node, {"axes": chosen, "keepdims": stated.get("keepdims", 1)})


def _concat(model: _Translation, node: NodeProto) -> None:
    if any(tensor in model.constants for tensor in node.input):
        raise UntranslatableError(f"{described(node)} has a constant among its inputs")
    model.append(node, {"axis": attributes_of(node)["axis"] % len(model.shapes[node.output[0]])})


def _flatten(model: _Translation, node: NodeProto) -> None:
    if attributes_of(node).get("axis", 1) != 1:
        raise UntranslatableError(f"{described(node)} flattens from another axis than 1")
    model.append(node, {"axis": 1})


def _reshape(model: _Translation, node: NodeProto) -> None:
    model.append(node, {"shape": model.shapes[node.output[0]]})


def _gemm(model: _Translation, node: NodeProto) -> None:
    """As a product with a weight [out, in], ``alpha`` and ``beta`` multiplied in."""
    stated = attributes_of(node)
    if stated.get("transA", 0):
        raise UntranslatableError(f"{described(node)} transposes what it multiplies")
    weight, bias = model.required(node, 1), model.constant(node, 2)
    if not stated.get("transB", 0):
        weight = weight.T
    parameters = {"weight": np.multiply(_float32(weight, described(node)), np.float32(stated.get("alpha", 1.0)))}
    if bias is not None:
        scaled = np.multiply(_float32(bias, described(node)), np.float32(stated.get("beta", 1.0)))
        parameters["bias"] = np.broadcast_to(scaled.reshape(-1), weight.shape[:1])
    model.append(node, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}, parameters)


def _matmul(model: _Translation, node: NodeProto) -> None:
    if node.input[0] in model.constants:
        raise UntranslatableError(f"{described(node)} has its constant on the left")
    model.append(node, {}, {"weight": model.constants[node.input[1]]} if node.input[1] in model.constants else {})


def _batch_norm(model: _Translation, node: NodeProto) -> None:
    stated = attributes_of(node)
    if stated.get("training_mode", 0) or len(node.output) > 1:
        raise UntranslatableError(f"{described(node)} is in training mode")
    roles = {role: model.required(node, number) for number, role in enumerate(("scale", "bias", "mean", "var"), 1)}
    model.append(node, {"epsilon": stated.get("epsilon", 1e-5)}, roles)


def _plain(model: _Translation, node: NodeProto) -> None:
    model.append(node)


_TRANSLATIONS: dict[str, Callable[[_Translation, NodeProto], None]] = {
    "Add": _elementwise,
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _elementwise,
    "ReduceMean": _reduce_mean,
    "Relu": _plain,
    "Reshape": _reshape,
    "Sigmoid": _plain,
}
"""ONNX operator to what makes its node."""

OPERATORS = frozenset(_TRANSLATIONS)
"""What a node may be."""

_PASSED = frozenset({"Identity", "Dropout"})
"""Operators that give what they take when a model is only executed."""
