"""Which layers of an ONNX model can be computed in INT8, and at which of their inputs values are quantised.

The places are those that TensorRT fuses ("Q/DQ Layer-Placement Recommendations" in its developer guide):

* the input and the weight of every convolution and matrix product, depthwise ones included, and not their output, so
  that bias and activation are fused into them;
* where a convolution's result is added to a shortcut, the shortcut, and not the result, so that the addition is fused
  into the convolution as well;
* nothing inside a squeeze-and-excite gate, whose products over 1×1 maps cost no time and would each be bordered by
  conversions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

WEIGHTED = ("Conv", "Gemm", "MatMul")
_POOLS = ("GlobalAveragePool", "ReduceMean")
_SIGMOIDS = ("Sigmoid", "HardSigmoid")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Read:
    """One input of one operator: what :mod:`hwnas.graphs.qdq` puts a pair of Q and DQ into."""

    reader: str
    """First output of the operator that reads."""
    position: int
    """Of the input among the operator's inputs."""
    tensor: str


@dataclass(frozen=True)
class Layer:
    """A layer that is computed in INT8 or left in higher precision as one.

    Attributes:
        name: of its operator, or of that one's output where it has no name.
        weight: initializer, floating point.
        axis: of the weight's output channels, each of which has a scale of its own.
        reads: the activations that are quantised: the operator's input, and the shortcut added to its output.
        weight_read: where the weight is read.
    """

    name: str
    weight: str
    axis: int
    reads: tuple[Read, ...]
    weight_read: Read

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activations that need a scale."""
        return tuple(read.tensor for read in self.reads)


def quantisable_layers(model: ModelProto) -> list[Layer]:
    """The layers of a model in the order of execution; layers with a weight that is not constant are not among them."""
    graph = _Graph(model.graph)
    gates = set(_gate_operators(graph))
    return [
        layer
        for node in model.graph.node
        if node.op_type in WEIGHTED and node.output[0] not in gates
        for layer in _layer(graph, node)
    ]


class _Graph:
    """A graph's tensors by name: who makes them, who reads them, which are parameters."""

    def __init__(self, graph: GraphProto) -> None:
        self.nodes = list(graph.node)
        self.maker = {output: node for node in graph.node for output in node.output}
        self.place = {output: place for place, node in enumerate(graph.node) for output in node.output}
        self.parameters = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def data_inputs(self, node: NodeProto) -> list[str]:
        """The inputs of a node that are not parameters."""
        return [name for name in node.input if name and name not in self.parameters]


def _layer(graph: _Graph, node: NodeProto) -> Iterator[Layer]:
    """The layer of an operator, if its weight is a parameter and its input is not."""
    weight = graph.parameters.get(node.input[1])
    if weight is None or weight.data_type not in _FLOATS or node.input[0] in graph.parameters:
        return
    key = node.output[0]
    yield Layer(
        name=node.name or key,
        weight=weight.name,
        axis=_channel_axis(node, len(weight.dims)),
        reads=(Read(key, 0, node.input[0]), *_shortcut(graph, node)),
        weight_read=Read(key, 1, weight.name),
    )


def _channel_axis(node: NodeProto, dimensions: int) -> int:
    if node.op_type == "Conv":
        return 0
    return dimensions - (2 if attribute(node, "transB", 0) else 1)


def _shortcut(graph: _Graph, node: NodeProto) -> Iterator[Read]:
    """The other operand of the addition that alone reads a layer's output.

    Where two layers are added, the addition is fused into the one that is computed last.
    """
    output = node.output[0]
    readers = graph.readers.get(output, [])
    if output in graph.outputs or [reader.op_type for reader in readers] != ["Add"]:
        return
    addition = readers[0]
    position = 1 - list(addition.input).index(output)
    other = addition.input[position]
    if other in graph.parameters:
        return
    rival = graph.maker.get(other)
    if rival is None or rival.op_type not in WEIGHTED or graph.place[other] < graph.place[output]:
        yield Read(addition.output[0], position, other)


def _gate_operators(graph: _Graph) -> Iterator[str]:
    """Outputs of the weighted operators between the pooling and the multiplication of a squeeze-and-excite."""
    for node in graph.nodes:
        if node.op_type != "Mul":
            continue
        for gate in node.input:
            path = _path_from_pool(graph, gate)
            others = set(node.input) - {gate}
            # In x · sigmoid(x) the other operand lies on the way: that is an activation, not a gate.
            if path and others.isdisjoint(output for step in path for output in step.output):
                yield from (step.output[0] for step in path if step.op_type in WEIGHTED)


def _path_from_pool(graph: _Graph, tensor: str) -> list[NodeProto]:
    """The operators in line between a global pooling and a sigmoid that gives ``tensor``; empty if there are none."""
    node = graph.maker.get(tensor)
    if node is None or node.op_type not in _SIGMOIDS:
        return []
    path = []
    while node is not None and node.op_type not in _POOLS:
        path.append(node)
        inputs = graph.data_inputs(node)
        # x · hard-sigmoid(x) and the like branch and join again within the gate.
        node = graph.maker.get(inputs[0]) if inputs else None
    return path if node is not None else []


def attribute(node: NodeProto, name: str, default: float) -> float:
    """A number among a node's attributes."""
    return next((helper.get_attribute_value(found) for found in node.attribute if found.name == name), default)
