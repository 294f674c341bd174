"""Blocks and networks as ONNX graphs, emitted directly from their description in milliseconds."""

from hwnas.graphs.compare import first_difference
from hwnas.graphs.emit import IR_VERSION, OPSET, block_graph, network_graph
from hwnas.graphs.layers import Layer, quantisable_layers
from hwnas.graphs.node_file import as_node_file
from hwnas.graphs.nodes import BLOCK_OUTPUT, NETWORK_OUTPUT, node_list
from hwnas.graphs.operators import Operator, Operators, read_operators
from hwnas.graphs.precision import (
    PRECISIONS,
    Precision,
    Remainder,
    graph_in_precision,
    half_precision_graph,
    quantized_graph,
)
from hwnas.graphs.qdq import insert_qdq
from hwnas.graphs.translate import UntranslatableError, translate
from hwnas.spaces.nodes import INPUT, Node

__all__ = [
    "BLOCK_OUTPUT",
    "INPUT",
    "IR_VERSION",
    "NETWORK_OUTPUT",
    "OPSET",
    "PRECISIONS",
    "Layer",
    "Node",
    "Operator",
    "Operators",
    "Precision",
    "Remainder",
    "UntranslatableError",
    "as_node_file",
    "block_graph",
    "first_difference",
    "graph_in_precision",
    "half_precision_graph",
    "insert_qdq",
    "network_graph",
    "node_list",
    "quantisable_layers",
    "quantized_graph",
    "read_operators",
    "translate",
]
