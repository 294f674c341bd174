"""Q/DQ pairs as NVIDIA's parser takes them: symmetric, INT8 or FP8, with scales fixed in the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, Severity
from hwnas.doctor.knowledge import SOURCES
from hwnas.doctor.model import Model, Place
from hwnas.doctor.origin import describe_all

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_SIGNED = (TensorProto.INT8, TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT4E2M1)
_SYMMETRIC = "quantise symmetrically to INT8 (ONNX Runtime: ActivationSymmetric and WeightSymmetric, QInt8)"
_PROBLEMS = {
    "int32-bias": (
        "A bias is quantised to INT32, which NVIDIA's parser refuses.",
        "leave biases as they are (ONNX Runtime: QuantizeBias=False)",
    ),
    "unsigned": ("Q/DQ pairs are of an unsigned type.", _SYMMETRIC),
    "asymmetric": ("Q/DQ pairs have a zero point that is not zero.", _SYMMETRIC),
    "scale-not-fixed": (
        "Q/DQ pairs have scales that are computed when the model runs; TensorRT-RTX 1.7 parses them, "
        "but the API of TensorRT asks for scales that are constant when the engine is built.",
        "quantise statically",
    ),
    "scale-not-positive": ("Q/DQ pairs have scales that are not positive and finite.", "calibrate anew"),
}


def quantisation(case: Case) -> Iterator[Finding]:
    """What is wrong with the model's Q/DQ pairs, one finding for each kind."""
    found: dict[str, list[Place]] = defaultdict(list)
    for place in case.model.places:
        if place.node.op_type in _QDQ and (problem := _problem(case.model, place.node)):
            found[problem].append(place)
    for problem, places in found.items():
        what, mend = _PROBLEMS[problem]
        undecided = problem == "scale-not-fixed"
        yield Finding(
            severity=Severity.UNKNOWN if undecided else Severity.ERROR,
            code=problem,
            what=what,
            where=describe_all(case.model, places),
            mend=mend,
            source=None if undecided else f"{SOURCES['8.5']} and of all later ones",
        )


def _problem(model: Model, node: NodeProto) -> str | None:
    """The first thing that is wrong with a node."""
    kind = _quantised_type(model, node)
    if kind == TensorProto.INT32:
        return "int32-bias"
    if kind is not None and kind not in _SIGNED:
        return "unsigned"
    zero = model.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if zero is not None and np.any(zero.astype(np.float32) != 0):
        return "asymmetric"
    if not model.is_constant(node.input[1]):
        return "scale-not-fixed"
    scale = model.value(node.input[1])
    if scale is not None and not np.all(np.isfinite(size := scale.astype(np.float64)) & (size > 0)):
        return "scale-not-positive"
    return None


def _quantised_type(model: Model, node: NodeProto) -> int | None:
    """The type of the quantised side; None where neither the zero point nor inference tells it."""
    if len(node.input) > 2 and node.input[2] in model.tensors:
        return model.tensors[node.input[2]].elem_type
    if node.op_type == "QuantizeLinear":
        return None  # ONNX's default is UINT8, but NVIDIA's parser takes a pair without zero point as INT8
    tensor = model.tensors.get(node.input[0])
    return None if tensor is None or _made_without_zero_point(model, node.input[0]) else tensor.elem_type


def _made_without_zero_point(model: Model, name: str) -> bool:
    producer = model.producers.get(name)
    return producer is not None and producer.op_type == "QuantizeLinear" and len(producer.input) < 3
