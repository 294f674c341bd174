"""From nodes to ONNX.

torch's exporter takes a second a graph; a profile needs hundreds.  That a graph from here is the graph that the
exporter gives for the same blocks is what :func:`hwnas.export.export_onnx` checks at every export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from hwnas import __version__
from hwnas.graphs.weights import random_parameter
from hwnas.spaces import BlockSpec, Network
from hwnas.spaces.nodes import Node

# Opset 17 is the newest that the parser of TensorRT 8.5 (JetPack 5) reads, and all later ones do too; it has HardSwish
# (since 14), which that parser knows and which ONNX Runtime fuses into the convolution before it.  IR version 8 is the
# one that belongs to opset 17.
OPSET = 17
IR_VERSION = 8
PRODUCER = "hwnas"
CONSTANT_INPUTS = {"Clip": ("min", "max"), "Resize": ("", "scales")}
"""Attributes of nodes that are further inputs in ONNX, in their order; "" is an input that is left out."""

Weights = Mapping[str, npt.NDArray[np.float32]]


def block_graph(spec: BlockSpec, *, batch: int = 1, seed: int = 0) -> ModelProto:
    """One block alone: ``input`` float32 [batch, C, H, W] to ``output`` [batch, C', H', W'], or [batch, classes].

    Where it takes several, its inputs are ``input``, ``input2``, ….
    Weights are random by ``seed``, batch norms folded into the convolutions.

    Raises:
        ValueError: ``batch`` is below 1.
    """
    return _model(Network.of_block(spec), batch, seed, None)


def network_graph(
    network: Network | Sequence[BlockSpec], *, batch: int = 1, seed: int = 0, weights: Weights | None = None
) -> ModelProto:
    """A whole network: ``input`` float32 [batch, 3, r, r] to its outputs, such as ``logits`` [batch, classes].

    Args:
        network: blocks with what each reads, or blocks that form a chain.
        batch: images at once.
        seed: of the random weights.
        weights: all parameters by name (``<node>.<role>``, see :class:`~hwnas.graphs.Node`), batch norms folded into
            them, in place of random ones.

    Raises:
        ValueError: the blocks do not fit each other, ``batch`` is below 1, or a given parameter is missing or has
            another shape.
    """
    return _model(Network.of(network), batch, seed, weights)


def _model(network: Network, batch: int, seed: int, weights: Weights | None) -> ModelProto:
    if batch < 1:
        raise ValueError(f"a graph's batch is at least 1, not {batch}")
    model = ModelProto(ir_version=IR_VERSION, producer_name=PRODUCER, producer_version=__version__)
    model.opset_import.add(domain="", version=OPSET)
    graph = model.graph
    graph.name = PRODUCER
    nodes = network.nodes
    graph.input.extend(_tensor_info(name, [batch, *shape]) for name, shape in network.inputs.items())
    made = {node["output"]: _tensor_info(node["output"], [batch, *node["shape"]]) for node in nodes}
    graph.output.extend(made.pop(name) for name, _ in network.outputs)
    graph.value_info.extend(made.values())
    for node in nodes:
        parameters = [f"{node['name']}.{role}" for role in node["parameters"]]
        inputs = [*node["inputs"], *parameters]
        emitted = graph.node.add(op_type=node["op"], name=node["name"], input=inputs, output=[node["output"]])
        constants = CONSTANT_INPUTS.get(node["op"], ())
        for name, value in node["attributes"].items():
            if name in constants:
                constant = numpy_helper.from_array(np.array(value, np.float32), f"{node['name']}.{name}")
                graph.initializer.append(constant)
            else:
                emitted.attribute.append(helper.make_attribute(name, value))
        emitted.input.extend(name and f"{node['name']}.{name}" for name in constants)
        for role, parameter in zip(node["parameters"], parameters, strict=True):
            number = len(graph.initializer)
            array = random_parameter(node, role, seed, number) if weights is None else _given(weights, node, role)
            graph.initializer.add(
                name=parameter, data_type=TensorProto.FLOAT, dims=array.shape, raw_data=_little_endian(array)
            )
    return model


def _tensor_info(name: str, shape: list[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _given(weights: Weights, node: Node, role: str) -> npt.NDArray[np.float32]:
    name, shape = f"{node['name']}.{role}", node["parameters"][role]
    if name not in weights:
        raise ValueError(f"parameter {name} {shape} is missing from the weights given")
    if list(weights[name].shape) != shape:
        raise ValueError(f"parameter {name} has shape {list(weights[name].shape)}, not {shape}")
    return weights[name]


def _little_endian(array: npt.NDArray[np.float32]) -> bytes:
    return array.astype("<f4", copy=False).tobytes()
