"""Writing a model as nodes; :mod:`hwnas.agent.node_model` reads it and describes the format."""

from __future__ import annotations

import json

from safetensors.numpy import save

from hwnas.agent.node_model import METADATA, SCHEMA
from hwnas.graphs.translate import NodeModel, translate


def node_file(model: NodeModel) -> bytes:
    """The file of a model; equal models give equal bytes."""
    described = {
        "schema": SCHEMA,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "nodes": model.nodes,
    }
    text = json.dumps(described, separators=(",", ":"), allow_nan=False)
    return save(model.parameters, metadata={METADATA: text})


def as_node_file(onnx: bytes) -> bytes:
    """An ONNX model as a file of nodes.

    Raises:
        UntranslatableError: see :func:`hwnas.graphs.translate`.
    """
    return node_file(translate(onnx))
