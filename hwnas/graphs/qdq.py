"""Explicit quantisation: pairs of QuantizeLinear and DequantizeLinear put into an ONNX model.

What NVIDIA's parsers accept of ONNX's many forms is one: signed 8-bit integers, symmetric (zero point 0), one scale a
tensor for activations and one an output channel for weights, and biases that are not quantised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from hwnas.graphs.layers import Layer, Read

INT8_MAX = 127
"""-128 is not used, so that weights are symmetric (Wu et al. 2020, "Integer Quantization for Deep Learning
Inference", Sec. 3.1)."""
SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)
"""In any precision, so that a model's two forms quantise alike; a scale of zero would be refused."""

Floats = npt.NDArray[np.floating]


def weight_scales(weight: Floats, axis: int) -> Floats:
    """One scale for each slice of a weight along ``axis``, of the weight's own type: largest magnitude over 127."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    largest = np.abs(weight).max(axis=others).astype(np.float32)
    scales: Floats = np.maximum(largest / INT8_MAX, SMALLEST_SCALE).astype(weight.dtype)
    return scales


def quantised_weight(weight: Floats, scales: Floats, axis: int) -> npt.NDArray[np.int8]:
    """A weight in multiples of its scales, rounded half to even."""
    shape = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)]
    steps = weight.astype(np.float32) / scales.astype(np.float32).reshape(shape)
    integers: npt.NDArray[np.int8] = np.clip(np.rint(steps), -INT8_MAX, INT8_MAX).astype(np.int8)
    return integers


def insert_qdq(model: ModelProto, layers: Sequence[Layer], scales: Mapping[str, float]) -> ModelProto:
    """A copy of a model in which some layers are quantised.

    A float32 layer keeps its weight in floating point and has Q and DQ behind it, since TensorRT 8 wants that; a
    float16 layer, which only TensorRT 10 and later read, has its weight as INT8 and DQ behind it.

    Args:
        model: float32 (opset 13 or later), or float16 (opset 19 or later), static or dynamic.
        layers: those to quantise, of :func:`hwnas.graphs.quantisable_layers` for this model.
        scales: of one step of each activation that the layers read, by its tensor's name.

    Raises:
        KeyError: a scale is missing.
    """
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    pairs = _Pairs(scales)
    for layer in layers:
        for read in layer.reads:
            pairs.add_activation(read, types[layer.weight])
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for layer in layers:
        pairs.add_weight(layer, weights[layer.weight])
    quantised = ModelProto()
    quantised.CopyFrom(model)
    graph = quantised.graph
    del graph.node[:]
    for node in model.graph.node:
        graph.node.extend(pairs.before(node))
        graph.node.append(pairs.redirected(node))
    still_read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in still_read]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *pairs.initializers])
    return quantised


class _Pairs:
    """The nodes and parameters to insert; a tensor that several layers read is quantised once."""

    def __init__(self, scales: Mapping[str, float]) -> None:
        self.scales = scales
        self.initializers: list[TensorProto] = []
        self._nodes: dict[str, list[NodeProto]] = {}
        self._result: dict[tuple[str, int], str] = {}

    def add_activation(self, read: Read, data_type: int) -> None:
        """Q and DQ behind an activation."""
        if read.tensor not in self._nodes:
            scale = np.array(max(self.scales[read.tensor], SMALLEST_SCALE), helper.tensor_dtype_to_np_dtype(data_type))
            parameters = self._parameters(read.tensor, scale)
            self._nodes[read.tensor] = [_quantize(read.tensor, parameters), _dequantize(read.tensor, parameters)]
        self._result[read.reader, read.position] = f"{read.tensor}.dequantized"

    def add_weight(self, layer: Layer, tensor: TensorProto) -> None:
        """DQ behind a weight, and Q before it or INT8 in place of the weight."""
        read, name = layer.weight_read, layer.weight
        if name not in self._nodes:
            weight = numpy_helper.to_array(tensor)
            scales = weight_scales(weight, layer.axis)
            parameters = self._parameters(name, scales)
            self._nodes[name] = [_dequantize(name, parameters, axis=layer.axis)]
            if tensor.data_type == TensorProto.FLOAT:
                self._nodes[name].insert(0, _quantize(name, parameters, axis=layer.axis))
            else:
                integers = quantised_weight(weight, scales, layer.axis)
                self.initializers.append(numpy_helper.from_array(integers, f"{name}.quantized"))
        self._result[read.reader, read.position] = f"{name}.dequantized"

    def before(self, node: NodeProto) -> Iterator[NodeProto]:
        """What stands before a node that reads quantised tensors for the first time."""
        for position, name in enumerate(node.input):
            if (node.output[0], position) in self._result:
                yield from self._nodes[name]
                self._nodes[name] = []

    def redirected(self, node: NodeProto) -> NodeProto:
        """The node with dequantised inputs in place of those that are quantised."""
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[:] = [self._result.get((node.output[0], k), name) for k, name in enumerate(node.input)]
        return changed

    def _parameters(self, name: str, scale: Floats) -> list[str]:
        """Names of a new scale and a zero point of its shape."""
        zeros = np.zeros(scale.shape, np.int8)
        self.initializers += [
            numpy_helper.from_array(scale, f"{name}.scale"),
            numpy_helper.from_array(zeros, f"{name}.zero_point"),
        ]
        return [f"{name}.scale", f"{name}.zero_point"]


def _quantize(name: str, parameters: list[str], **attributes: int) -> NodeProto:
    return _node("QuantizeLinear", [name, *parameters], f"{name}.quantized", attributes)


def _dequantize(name: str, parameters: list[str], **attributes: int) -> NodeProto:
    return _node("DequantizeLinear", [f"{name}.quantized", *parameters], f"{name}.dequantized", attributes)


def _node(op: str, inputs: list[str], output: str, attributes: dict[str, int]) -> NodeProto:
    node = NodeProto(op_type=op, name=output, input=inputs, output=[output])
    node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    return node
