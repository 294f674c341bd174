"""Blocks and networks as ONNX graphs, emitted directly from their description in milliseconds."""

from hwnas.graphs.compare import first_difference
from hwnas.graphs.emit import IR_VERSION, OPSET, block_graph, network_graph
from hwnas.graphs.nodes import BLOCK_OUTPUT, INPUT, NETWORK_OUTPUT, Node, node_list
from hwnas.graphs.operators import Operator, Operators, read_operators

__all__ = [
    "BLOCK_OUTPUT",
    "INPUT",
    "IR_VERSION",
    "NETWORK_OUTPUT",
    "OPSET",
    "Node",
    "Operator",
    "Operators",
    "block_graph",
    "first_difference",
    "network_graph",
    "node_list",
    "read_operators",
]
