"""Nodes as a PyTorch program: straight-line code over functions of ``torch``, one call a node.

It takes and gives FP32 in the order of dimensions that the model states, whatever precision and layout it has within.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List

import torch
from torch import Tensor, fx
from torch.nn import functional

from ..node_model import NodeModel, Operation
from ..protocol import AgentError, ErrorKind

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def build_program(model: NodeModel, precision: str, channels_last: bool) -> fx.GraphModule:
    """The program of a model, on the CPU and in evaluation mode.

    Args:
        model: of FP32 parameters.
        precision: in which parameters are held and everything is computed, a key of :data:`DTYPES`.
        channels_last: whether feature maps lie in memory with the channels next to each other.

    Raises:
        AgentError: ``model-refused`` for an operator that is not known, naming it and its node.
    """
    dtype = DTYPES[precision]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    graph = fx.Graph()
    values: Dict[str, fx.Node] = {}
    root = torch.nn.Module()
    for number, (name, shape) in enumerate(model.inputs.items()):
        value = graph.placeholder("input_%d" % number)
        values[name] = graph.call_function(_enter, (value, dtype, layout if len(shape) == 4 else None))
    for number, operation in enumerate(model.operations):
        if operation.op not in _CALLS:
            raise AgentError(
                ErrorKind.MODEL_REFUSED,
                "%s '%s' is no operator that this agent builds with PyTorch" % (operation.op, operation.name),
            )
        held: Dict[str, fx.Node] = {}
        for role, array in operation.parameters.items():
            name = "parameter_%d_%s" % (number, role)
            root.register_buffer(name, _parameter(torch.tensor(array), dtype, layout))
            held[role] = graph.get_attr(name)
        inputs = [values[name] for name in operation.inputs]
        values[operation.output] = _CALLS[operation.op](graph, operation, inputs, held)
    graph.output(tuple(graph.call_function(_leave, (values[name],)) for name in model.outputs))
    return fx.GraphModule(root, graph).eval()


def _enter(value: Tensor, dtype: torch.dtype, layout: Any) -> Tensor:
    return value.to(dtype) if layout is None else value.to(dtype, memory_format=layout)


def _leave(value: Tensor) -> Tensor:
    return value.to(torch.float32).contiguous()


def _parameter(value: Tensor, dtype: torch.dtype, layout: Any) -> Tensor:
    return value.to(dtype, memory_format=layout) if value.dim() == 4 else value.to(dtype)


Call = Callable[[fx.Graph, Operation, List[fx.Node], Dict[str, fx.Node]], fx.Node]


def _convolution(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], held: Dict[str, fx.Node]) -> fx.Node:
    stated = operation.attributes
    value, padding = _padded(graph, inputs[0], stated["pads"], 0.0)
    arguments = (value, held["weight"], held.get("bias"), stated["strides"], padding)
    return graph.call_function(functional.conv2d, (*arguments, stated["dilations"], stated["group"]))


def _average_pool(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    stated = operation.attributes
    value, padding = _padded(graph, inputs[0], stated["pads"], 0.0)
    counted = bool(stated["count_include_pad"])
    arguments = (value, stated["kernel_shape"], stated["strides"], padding, bool(stated["ceil_mode"]), counted)
    return graph.call_function(functional.avg_pool2d, arguments)


def _max_pool(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    stated = operation.attributes
    value, padding = _padded(graph, inputs[0], stated["pads"], -math.inf)
    arguments = (value, stated["kernel_shape"], stated["strides"], padding, 1, bool(stated["ceil_mode"]))
    return graph.call_function(functional.max_pool2d, arguments)


def _padded(graph: fx.Graph, value: fx.Node, pads: List[int], filling: float) -> "tuple[fx.Node, List[int]]":
    """What a window slides over and the padding that is left to it, which PyTorch wants the same on both sides."""
    before, after = pads[:2], pads[2:]
    if before == after:
        return value, list(before)
    sides = (before[1], after[1], before[0], after[0])
    return graph.call_function(functional.pad, (value, sides, "constant", filling)), [0, 0]


def _clip(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    bounds = (operation.attributes.get("min"), operation.attributes.get("max"))
    if bounds == (0.0, 6.0):
        return graph.call_function(functional.relu6, (inputs[0],))
    if bounds == (None, None):
        return inputs[0]
    return graph.call_function(torch.clamp, (inputs[0], *bounds))


def _hard_sigmoid(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    alpha, beta = operation.attributes["alpha"], operation.attributes["beta"]
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return graph.call_function(functional.hardsigmoid, (inputs[0],))
    return graph.call_function(_general_hard_sigmoid, (inputs[0], alpha, beta))


def _general_hard_sigmoid(value: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.clamp(value * alpha + beta, 0.0, 1.0)


def _binary(function: Callable[..., Tensor]) -> Call:
    def call(graph: fx.Graph, _: Operation, inputs: List[fx.Node], held: Dict[str, fx.Node]) -> fx.Node:
        return graph.call_function(function, (*inputs, *held.values()))

    return call


def _unary(function: Callable[..., Tensor], *further: Any) -> Call:
    def call(graph: fx.Graph, _: Operation, inputs: List[fx.Node], __: Dict[str, fx.Node]) -> fx.Node:
        return graph.call_function(function, (inputs[0], *further))

    return call


def _concat(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    return graph.call_function(torch.cat, (inputs, operation.attributes["axis"]))


def _reshape(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    return graph.call_function(torch.reshape, (inputs[0], operation.attributes["shape"]))


def _resize(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    """Each pixel as a square or rectangle of pixels."""
    scales = [float(scale) for scale in operation.attributes["scales"][2:]]
    return graph.call_function(functional.interpolate, (inputs[0], None, scales, "nearest"))


def _mean(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], _: Dict[str, fx.Node]) -> fx.Node:
    axes, kept = operation.attributes["axes"], bool(operation.attributes["keepdims"])
    return graph.call_function(torch.mean, (inputs[0], axes, kept))


def _linear(graph: fx.Graph, _: Operation, inputs: List[fx.Node], held: Dict[str, fx.Node]) -> fx.Node:
    return graph.call_function(functional.linear, (inputs[0], held["weight"], held.get("bias")))


def _batch_norm(graph: fx.Graph, operation: Operation, inputs: List[fx.Node], held: Dict[str, fx.Node]) -> fx.Node:
    statistics = (held["mean"], held["var"], held["scale"], held["bias"])
    further = (False, 0.0, operation.attributes["epsilon"])
    return graph.call_function(functional.batch_norm, (inputs[0], *statistics, *further))


_CALLS: Dict[str, Call] = {
    "Add": _binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "Flatten": _unary(torch.flatten, 1),
    "Gemm": _linear,
    "GlobalAveragePool": _unary(functional.adaptive_avg_pool2d, 1),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "MatMul": _binary(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _binary(torch.mul),
    "ReduceMean": _mean,
    "Relu": _unary(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _unary(torch.sigmoid),
}
"""ONNX operator to what calls PyTorch for it."""
