"""Whether two ONNX models compute by the same graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, defs, helper


def first_difference(ours: ModelProto, theirs: ModelProto) -> str | None:
    """The first difference between two graphs as a clause for people, or None where they are the same.

    Two graphs are the same if their nodes in order have the same operators, the same attributes (an absent one has
    its default), read the same tensors (outputs of the same nodes, inputs of the graph, parameters of the same type
    and shape) and if inputs and outputs have the same names, types and shapes.  Values of parameters, names of nodes
    and names of inner tensors are free.
    """
    our_sets, their_sets = _opsets(ours), _opsets(theirs)
    if our_sets != their_sets:
        return f"opsets {our_sets} against {their_sets}"
    for kind in ("input", "output"):
        our_ends, their_ends = _ends(getattr(ours.graph, kind)), _ends(getattr(theirs.graph, kind))
        if our_ends != their_ends:
            return f"graph {kind} {our_ends} against {their_ends}"
    our_nodes, their_nodes = _canonical(ours), _canonical(theirs)
    for number, (our, their) in enumerate(zip(our_nodes, their_nodes, strict=False)):
        if our != their:
            return f"node {number}: {our} against {their}"
    if len(our_nodes) != len(their_nodes):
        return f"{len(our_nodes)} nodes against {len(their_nodes)}"
    if _output_sources(ours.graph) != _output_sources(theirs.graph):
        return "the graph's outputs come from different nodes"
    return None


@dataclass(frozen=True)
class _CanonicalNode:
    """A node without names: ``sources`` are earlier nodes' outputs, graph inputs or shapes of parameters."""

    op: str
    attributes: dict[str, Any]
    sources: tuple[str, ...]

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f"{self.op}({', '.join(self.sources)}; {settings})"


def _canonical(model: ModelProto) -> list[_CanonicalNode]:
    opset = max((entry.version for entry in model.opset_import if entry.domain == ""), default=1)
    source = _sources(model.graph)
    return [
        _CanonicalNode(
            node.op_type, _attributes(node, opset), tuple(source.get(name, "nothing") for name in node.input)
        )
        for node in model.graph.node
    ]


def _sources(graph: GraphProto) -> dict[str, str]:
    """What each tensor is, in words that do not depend on inner names."""
    source = {"": "absent"}
    source |= {value.name: f"graph input '{value.name}'" for value in graph.input}
    source |= {tensor.name: _parameter(tensor) for tensor in graph.initializer}
    for number, node in enumerate(graph.node):
        source |= {name: f"node {number} output {k}" for k, name in enumerate(node.output)}
    return source


def _parameter(tensor: TensorProto) -> str:
    return f"parameter {TensorProto.DataType.Name(tensor.data_type)} {list(tensor.dims)}"


def _attributes(node: NodeProto, opset: int) -> dict[str, Any]:
    """All attributes of a node by name, defaults included."""
    known = defs.get_schema(node.op_type, opset, node.domain).attributes if defs.has(node.op_type, node.domain) else {}
    values = {
        name: helper.get_attribute_value(schema.default_value)
        for name, schema in known.items()
        if schema.default_value.name
    }
    values |= {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return dict(sorted(values.items()))


def _opsets(model: ModelProto) -> dict[str, int]:
    return {entry.domain: entry.version for entry in model.opset_import}


def _ends(values: Iterable[ValueInfoProto]) -> list[tuple[str, str, list[int | str]]]:
    """Name, type and shape of the graph's inputs or outputs."""
    ends = []
    for value in values:
        tensor = value.type.tensor_type
        shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
        ends.append((value.name, TensorProto.DataType.Name(tensor.elem_type), shape))
    return ends


def _output_sources(graph: GraphProto) -> list[str]:
    source = _sources(graph)
    return [source.get(value.name, "nothing") for value in graph.output]
