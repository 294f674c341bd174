"""Emitted graphs in other precisions than FP32, for measuring: without data, in milliseconds.

A network that is to be used is quantised from calibration images, by :mod:`hwnas.export`; the graphs from here have
the same operators, types and places of Q and DQ, and so the same latency.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hwnas.graphs.layers import quantisable_layers
from hwnas.graphs.qdq import insert_qdq

Precision = Literal["fp32", "fp16", "int8"]
Remainder = Literal["fp32", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

FP16_QDQ_OPSET = 19
"""The first in which Q and DQ take and give float16; TensorRT reads it from version 10 on."""
FP16_QDQ_IR_VERSION = 9
PLAUSIBLE_SCALE = 1 / 16
"""Of all activations: ±8 holds those of the random weights of emitted graphs, which have a deviation of about 1."""


def graph_in_precision(model: ModelProto, precision: Precision, *, remainder: Remainder = "fp16") -> ModelProto:
    """An emitted float32 graph in a precision; inputs and outputs stay float32.

    Args:
        model: of :func:`hwnas.graphs.block_graph` or :func:`hwnas.graphs.network_graph`; it is left as it is.
        precision: ``fp32`` gives ``model`` itself.
        remainder: with ``int8``, the precision of what is not quantised.  ``fp16`` has opset 19 and is for TensorRT 10
            and later; ``fp32`` stays at the model's opset, and on TensorRT 8 the engine's builder may be allowed
            FP16 for the remainder.
    """
    if precision == "fp32":
        return model
    if precision == "fp16":
        return half_precision_graph(model)
    return quantized_graph(model, remainder=remainder)


def quantized_graph(model: ModelProto, *, remainder: Remainder = "fp16") -> ModelProto:
    """An emitted graph with all layers that can be in INT8, by scales that are plausible but of no data.

    Args:
        model, remainder: as of :func:`graph_in_precision`.
    """
    if remainder == "fp16":
        model = half_precision_graph(model)
        model.opset_import[0].version = FP16_QDQ_OPSET
        model.ir_version = FP16_QDQ_IR_VERSION
    return insert_qdq(model, quantisable_layers(model), defaultdict(lambda: PLAUSIBLE_SCALE))


def half_precision_graph(model: ModelProto) -> ModelProto:
    """An emitted graph in float16 between casts of its inputs and of its outputs.

    For graphs of :mod:`hwnas.graphs` alone, all of whose operators compute in float16 and whose parameters are far
    inside its range; :func:`hwnas.export.half_precision` converts any model.
    """
    halves = {value.name: f"{value.name}.fp16" for value in (*model.graph.input, *model.graph.output)}
    half = ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name, producer_version=model.producer_version
    )
    half.opset_import.extend(model.opset_import)
    graph = half.graph
    graph.name = model.graph.name
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(_half_info(value, halves) for value in _values(model))
    graph.node.extend(_cast(value.name, halves[value.name], TensorProto.FLOAT16) for value in model.graph.input)
    for node in model.graph.node:
        added = graph.node.add()
        added.CopyFrom(node)
        added.input[:] = [halves.get(name, name) for name in node.input]
        added.output[:] = [halves.get(name, name) for name in node.output]
    graph.node.extend(_cast(halves[value.name], value.name, TensorProto.FLOAT) for value in model.graph.output)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor).astype(np.float16)
        graph.initializer.append(numpy_helper.from_array(array, tensor.name))
    return half


def _values(model: ModelProto) -> list[ValueInfoProto]:
    return [*model.graph.input, *model.graph.value_info, *model.graph.output]


def _half_info(value: ValueInfoProto, names: dict[str, str]) -> ValueInfoProto:
    info = ValueInfoProto()
    info.CopyFrom(value)
    info.name = names.get(value.name, value.name)
    info.type.tensor_type.elem_type = TensorProto.FLOAT16
    return info


def _cast(source: str, result: str, data_type: int) -> NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}.cast", to=data_type)
