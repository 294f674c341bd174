"""Models as nodes: what a device with PyTorch and without ONNX is sent.

The file is a safetensors file: 8 bytes with the length of a JSON header, the header, the parameters.  The header's
metadata holds, under :data:`METADATA`, the JSON of ``inputs`` and ``outputs`` (shapes by name, the batch first) and
``nodes``, each with ``name``, ``op``, ``inputs``, ``output``, ``attributes``, ``parameters`` (shapes by role; the
tensor is called ``<name>.<role>``) and ``shape``, with the meaning that ONNX gives to its operator.  A parameter that
is stored with one element is spread to its shape.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from .arrays import Array
from .protocol import AgentError, ErrorKind

METADATA = "hwnas.nodes"
SCHEMA = 1
_LENGTH_BYTES = 8
_FLOAT32 = "F32"


@dataclass(frozen=True)
class Operation:
    """One node."""

    name: str
    op: str
    inputs: Tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    parameters: Mapping[str, Array]
    """By role, spread to their shapes."""


@dataclass(frozen=True)
class NodeModel:
    """Operations in an order in which they can be executed, and shapes by name of what goes in and out; all FP32."""

    operations: Tuple[Operation, ...]
    inputs: Mapping[str, Tuple[int, ...]]
    outputs: Mapping[str, Tuple[int, ...]]


def read_node_model(content: bytes) -> NodeModel:
    """The model of a file.

    Raises:
        AgentError: ``model-refused``, when it is none.
    """
    try:
        return _read(content)
    except (ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        reason = "%s %s" % (type(error).__name__, error) if isinstance(error, LookupError) else str(error)
        raise AgentError(ErrorKind.MODEL_REFUSED, "this is no model as nodes (%s)" % reason[:200]) from error


def _read(content: bytes) -> NodeModel:
    header, data = _parts(content)
    described = json.loads(header.pop("__metadata__")[METADATA])
    if described["schema"] != SCHEMA:
        raise ValueError("its schema is %r where %d is known" % (described["schema"], SCHEMA))
    tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
    operations = tuple(_operation(node, tensors) for node in described["nodes"])
    inputs, outputs = (_shapes(described[kind]) for kind in ("inputs", "outputs"))
    _check_order(operations, inputs, outputs)
    return NodeModel(operations, inputs, outputs)


def _parts(content: bytes) -> Tuple[Dict[str, Any], memoryview]:
    (length,) = struct.unpack("<Q", content[:_LENGTH_BYTES])
    end = _LENGTH_BYTES + length
    if end > len(content):
        raise ValueError("its header of %d bytes exceeds its %d bytes" % (length, len(content)))
    header: Dict[str, Any] = json.loads(content[_LENGTH_BYTES:end])
    return header, memoryview(content)[end:]


def _tensor(name: str, entry: Mapping[str, Any], data: memoryview) -> Array:
    first, last = entry["data_offsets"]
    if entry["dtype"] != _FLOAT32 or not 0 <= first <= last <= len(data):
        raise ValueError("parameter '%s' is not %s, or lies outside of the file" % (name, _FLOAT32))
    return np.frombuffer(data[first:last], dtype="<f4").reshape(entry["shape"])


def _operation(node: Mapping[str, Any], tensors: Mapping[str, Array]) -> Operation:
    name = str(node["name"])
    parameters = {
        role: np.broadcast_to(tensors["%s.%s" % (name, role)], shape) for role, shape in node["parameters"].items()
    }
    return Operation(
        name, str(node["op"]), tuple(node["inputs"]), str(node["output"]), dict(node["attributes"]), parameters
    )


def _shapes(described: Mapping[str, List[int]]) -> Dict[str, Tuple[int, ...]]:
    if not all(type(side) is int and side > 0 for shape in described.values() for side in shape):
        raise ValueError("a shape is not made of positive whole numbers")
    return {name: tuple(shape) for name, shape in described.items()}


def _check_order(operations: Tuple[Operation, ...], inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    known = set(inputs)
    for operation in operations:
        missing = [name for name in operation.inputs if name not in known]
        if missing:
            raise ValueError("node '%s' reads '%s', which nothing before it writes" % (operation.name, missing[0]))
        if operation.output in known:
            raise ValueError("'%s' is written twice" % operation.output)
        known.add(operation.output)
    unwritten = [name for name in outputs if name not in known]
    if unwritten or not inputs or not outputs:
        raise ValueError("output '%s' is never written" % unwritten[0] if unwritten else "it has no input or no output")
