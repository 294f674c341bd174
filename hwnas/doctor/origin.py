"""Where a node comes from: the module and the line of code that an exporter wrote down, and its way to the input."""

from __future__ import annotations

import ast
import re

from onnx import NodeProto

from hwnas.doctor.model import Model, Place

_SCOPES = ("pkg.torch.onnx.name_scopes", "namespace")
_CLASSES = "pkg.torch.onnx.class_hierarchy"
_TRACE = "pkg.torch.onnx.stack_trace"
_CODE = re.compile(r'File "([^"]+)", line (\d+)|(\S+\.py)[(:](\d+)')
_STEPS = 3
_LONGEST = 5


def describe(model: Model, place: Place) -> str:
    """Such as ``Det '/head/Det', module head.det (Head), model.py:12, from '/body/Relu' ← input``."""
    node = place.node
    parts = [f"{node.op_type} '{node.name or node.output[0]}'"]
    if place.inside:
        parts.append("in " + " in ".join(reversed(place.inside)))
    parts += [part for part in (_module(node), _line(node), _way(model, node)) if part]
    return ", ".join(parts)


def describe_all(model: Model, places: list[Place]) -> tuple[str, ...]:
    """The first few, and how many more there are."""
    found = [describe(model, place) for place in places[:_LONGEST]]
    if len(places) > _LONGEST:
        found.append(f"and {len(places) - _LONGEST} more")
    return tuple(found)


def _module(node: NodeProto) -> str | None:
    """The torch module: its path as torch.onnx wrote it into the node, else the path in the node's name."""
    properties = {entry.key: entry.value for entry in node.metadata_props}
    scopes = next((_innermost(properties[key]) for key in _SCOPES if key in properties), None)
    if scopes is None:
        path = node.name.strip("/").split("/")[:-1]
        return f"module {'.'.join(path)}" if path else None
    kind = _innermost(properties.get(_CLASSES, "[]")).rpartition(".")[2]
    return f"module {scopes or 'itself'}" + (f" ({kind})" if kind else "")


def _innermost(written: str) -> str:
    """The last module of a list as torch writes it, whose last entry is the operation itself."""
    try:
        entries = [str(entry) for entry in ast.literal_eval(written)]
    except (ValueError, SyntaxError, TypeError):
        # A `namespace` is a path such as `: Net/head: Head/linalg_det: aten.linalg_det.default`.
        entries = [part.split(":")[0].strip() for part in written.split("/")]
    named = [entry for entry in entries[:-1] if entry]
    return named[-1] if named else ""


def _line(node: NodeProto) -> str | None:
    """The innermost line of user code in the exporter's stack trace."""
    properties = {entry.key: entry.value for entry in node.metadata_props}
    trace = properties.get(_TRACE) or node.doc_string
    lines = [(m[1] or m[3], m[2] or m[4]) for m in _CODE.finditer(trace)]
    own = [line for line in lines if "/torch/" not in line[0]] or lines
    if not own:
        return None
    # torch's stack_trace ends with the innermost call, the TorchScript exporter's doc_string begins with it.
    file, number = own[-1] if _TRACE in properties else own[0]
    return f"{file}:{number}"


def _way(model: Model, node: NodeProto) -> str | None:
    """The producers behind it, towards the input."""
    steps: list[str] = []
    current = node
    while len(steps) < _STEPS:
        source = next((name for name in current.input if name and not model.is_constant(name)), None)
        if source is None:
            break
        producer = model.producers.get(source)
        steps.append(f"'{producer.name or source}'" if producer is not None else f"input '{source}'")
        if producer is None:
            break
        current = producer
    return "from " + " ← ".join(steps) if steps else None
