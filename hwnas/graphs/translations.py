"""What each ONNX operator is as a node; a new one is a function here and a line in :data:`TRANSLATIONS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from hwnas.graphs.padding import explicit_pads
from hwnas.spaces.nodes import Attribute

if TYPE_CHECKING:
    from hwnas.graphs.translate import Translation

Array = npt.NDArray[np.float32]


class UntranslatableError(ValueError):
    """A model that cannot be told as nodes; the sentence names operator and node."""


def described(node: NodeProto) -> str:
    """An operator and its node, for a sentence."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"{operator} '{node.name or node.output[0]}'"


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes that a node states."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}


def float32_array(array: npt.NDArray[np.generic], where: str) -> Array:
    if array.dtype != np.float32:
        raise UntranslatableError(f"{where} has {array.dtype} weights; give the FP32 model, which the device converts")
    return np.ascontiguousarray(array, np.float32)


def _convolution(model: Translation, node: NodeProto) -> None:
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


def _pool(model: Translation, node: NodeProto) -> None:
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


def _elementwise(model: Translation, node: NodeProto) -> None:
    """Both operators are commutative: the constant, if there is one, comes last."""
    constant = [tensor for tensor in node.input if tensor in model.constants]
    model.append(node, {}, {"operand": model.constants[constant[0]]} if constant else {})


def _clip(model: Translation, node: NodeProto) -> None:
    stated = attributes_of(node)  # where older opsets have the bounds
    bounds = {}
    for position, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        value = model.constant(node, position)
        bounds[name] = float(stated.get(name, default) if value is None else value.reshape(()))
    model.append(node, {name: bound for name, bound in bounds.items() if math.isfinite(bound)})


def _hard_sigmoid(model: Translation, node: NodeProto) -> None:
    model.append(node, {"alpha": 0.2, "beta": 0.5} | attributes_of(node))


def _reduce_mean(model: Translation, node: NodeProto) -> None:
    stated, given = attributes_of(node), model.constant(node, 1)
    axes = stated.get("axes") if given is None else [int(axis) for axis in given.reshape(-1)]
    rank = len(model.shapes[node.input[0]])
    if not axes and stated.get("noop_with_empty_axes", 0):
        raise UntranslatableError(f"{described(node)} reduces nothing")
    chosen = sorted(axis % rank for axis in axes) if isinstance(axes, list) and axes else list(range(rank))
    model.append(node, {"axes": chosen, "keepdims": stated.get("keepdims", 1)})


def _concat(model: Translation, node: NodeProto) -> None:
    if any(tensor in model.constants for tensor in node.input):
        raise UntranslatableError(f"{described(node)} has a constant among its inputs")
    model.append(node, {"axis": attributes_of(node)["axis"] % len(model.shapes[node.output[0]])})


def _resize(model: Translation, node: NodeProto) -> None:
    stated, given = attributes_of(node), model.constant(node, 2)
    scales = [] if given is None else [float(scale) for scale in given]
    repeats = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if any(stated.get(name) != value for name, value in repeats.items()) or not all(map(float.is_integer, scales)):
        raise UntranslatableError(f"{described(node)} does more than to repeat pixels")
    if len(scales) != 4 or scales[:2] != [1, 1]:
        raise UntranslatableError(f"{described(node)} does not scale by constants, or more than height and width")
    model.append(node, {"scales": [int(scale) for scale in scales]})


def _flatten(model: Translation, node: NodeProto) -> None:
    if attributes_of(node).get("axis", 1) != 1:
        raise UntranslatableError(f"{described(node)} flattens from another axis than 1")
    model.append(node, {"axis": 1})


def _reshape(model: Translation, node: NodeProto) -> None:
    model.append(node, {"shape": model.shapes[node.output[0]]})


def _gemm(model: Translation, node: NodeProto) -> None:
    """As a product with a weight [out, in], ``alpha`` and ``beta`` multiplied in."""
    stated = attributes_of(node)
    if stated.get("transA", 0):
        raise UntranslatableError(f"{described(node)} transposes what it multiplies")
    weight, bias = model.required(node, 1), model.constant(node, 2)
    if not stated.get("transB", 0):
        weight = weight.T
    parameters = {"weight": np.multiply(float32_array(weight, described(node)), np.float32(stated.get("alpha", 1.0)))}
    if bias is not None:
        scaled = np.multiply(float32_array(bias, described(node)), np.float32(stated.get("beta", 1.0)))
        parameters["bias"] = np.broadcast_to(scaled.reshape(-1), weight.shape[:1])
    model.append(node, {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}, parameters)


def _matmul(model: Translation, node: NodeProto) -> None:
    if node.input[0] in model.constants:
        raise UntranslatableError(f"{described(node)} has its constant on the left")
    model.append(node, {}, {"weight": model.constants[node.input[1]]} if node.input[1] in model.constants else {})


def _batch_norm(model: Translation, node: NodeProto) -> None:
    stated = attributes_of(node)
    if stated.get("training_mode", 0) or len(node.output) > 1:
        raise UntranslatableError(f"{described(node)} is in training mode")
    roles = {role: model.required(node, number) for number, role in enumerate(("scale", "bias", "mean", "var"), 1)}
    model.append(node, {"epsilon": stated.get("epsilon", 1e-5)}, roles)


def _plain(model: Translation, node: NodeProto) -> None:
    model.append(node)


TRANSLATIONS: dict[str, Callable[[Translation, NodeProto], None]] = {
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
    "Resize": _resize,
    "Sigmoid": _plain,
}
"""ONNX operator to what makes its node."""
