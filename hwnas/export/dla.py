"""INT8 for deep-learning accelerators: Q/DQ nodes out of a model, their scales apart.

Before TensorRT 11 a DLA takes INT8 scales from a calibration cache and reads no Q/DQ nodes (NVIDIA, Working with DLA;
NVIDIA's own translator of the kind is in NVIDIA/Deep-Learning-Accelerator-SW).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from hwnas.export.errors import ExportError

Scales = dict[str, float]


def without_qdq(model: ModelProto) -> tuple[ModelProto, Scales]:
    """The unquantised model, and the scale of each tensor that was quantised.

    Weights that were stored in INT8 become what they stood for.  A tensor that is quantised twice has the larger
    scale, which holds all of its values.

    Args:
        model: symmetric Q/DQ, activations with one scale each; it is left as it is.

    Raises:
        ExportError: the model has no quantised activation, or one whose scale is not constant, positive and single.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in bare.graph.initializer}
    stands_for: dict[str, str] = {}
    scales: Scales = {}
    kept: list[NodeProto] = []
    for node in bare.graph.node:
        source = stands_for.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "QuantizeLinear":
            stands_for[node.output[0]] = source
            if source not in constants:
                scales[source] = max(_scale(node, constants), scales.get(source, 0.0))
        elif node.op_type == "DequantizeLinear":
            stands_for[node.output[0]] = source
            if source in constants and constants[source].dtype == np.int8:
                constants[source] = _dequantised(node, constants)
        else:
            kept.append(node)
    if not scales:
        raise ExportError("The model has no quantised activations to take scales from; quantise it to INT8 first.")
    _replace_nodes(bare, kept, stands_for)
    _replace_constants(bare, constants)
    return bare, scales


def _scale(node: NodeProto, constants: dict[str, NDArray[np.generic]]) -> float:
    scale = constants.get(node.input[1])
    zero = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(1)
    if scale is None or scale.size != 1 or not float(scale.reshape(-1)[0]) > 0 or zero is None or zero.any():
        raise ExportError(
            f"Tensor '{node.input[0]}' is not quantised by one constant positive scale with zero point 0, "
            "which is all that a DLA knows; quantise activations symmetrically, per tensor."
        )
    return float(scale.reshape(-1)[0])


def _dequantised(node: NodeProto, constants: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """What the INT8 weights stand for, with a scale for all or for each channel of ``axis``."""
    weights, scale = constants[node.input[0]], constants[node.input[1]]
    if scale.size > 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        shape = [1] * weights.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
    return (weights.astype(np.float32) * scale.astype(np.float32)).astype(scale.dtype)


def _replace_nodes(model: ModelProto, kept: list[NodeProto], stands_for: dict[str, str]) -> None:
    for tensor in model.graph.output:
        if tensor.name in stands_for:
            raise ExportError(f"Output '{tensor.name}' is dequantised last; let the last layer give a float.")
    for node in kept:
        for position, name in enumerate(node.input):
            node.input[position] = stands_for.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(kept)
    del model.graph.value_info[:]


def _replace_constants(model: ModelProto, constants: dict[str, NDArray[np.generic]]) -> None:
    """Only those that a node still reads."""
    read = {name for node in model.graph.node for name in node.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items() if name in read
    )
