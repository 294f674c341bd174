"""How much memory an engine will need, estimated from the model."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, MemoryEstimate, Severity

_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "fp8": 1.0}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_TIGHT = 0.5
_GIB, _MIB = 2**30, 2**20


def estimate(case: Case) -> MemoryEstimate | None:
    """Weights, the most that is alive at once, and the workspace; None where shapes are dynamic or not known."""
    activations = _peak_of_activations(case)
    if activations is None:
        return None
    return MemoryEstimate(
        weights=sum(_bytes(case, t.data_type, math.prod(t.dims)) for t in case.model.graph.initializer),
        activations=activations,
        workspace=case.plan.workspace_bytes,
        available=case.platform.memory_bytes,
    )


def memory(case: Case, found: MemoryEstimate | None) -> Iterator[Finding]:
    """Whether the estimate fits."""
    if found is None:
        yield Finding(
            severity=Severity.UNKNOWN,
            code="memory-unknown",
            what="The model's shapes are dynamic or cannot be inferred, so its memory cannot be estimated.",
            mend="export with static shapes",
        )
        return
    if found.available is None:
        yield Finding(
            severity=Severity.NOTE,
            code="memory-not-compared",
            what=f"It needs about {_readable(found.total)}; how much memory the device has is not known.",
            mend="give --memory-gib",
        )
    elif found.total > found.available:
        yield Finding(
            severity=Severity.ERROR,
            code="out-of-memory",
            what=f"It needs about {_readable(found.total)}, and {case.platform.name} has {_readable(found.available)}.",
            mend="take a smaller batch or resolution, or a lower precision",
        )
    elif found.total > _TIGHT * found.available:
        shared = ", which the system shares" if case.platform.shared_memory else ""
        yield Finding(
            severity=Severity.WARNING,
            code="memory-tight",
            what=f"It needs about {_readable(found.total)} of {_readable(found.available)}{shared}; "
            "the builder, which tries kernels, needs more.",
            mend="build with a workspace limit, and leave nothing else running",
        )


def _peak_of_activations(case: Case) -> int | None:
    """Bytes of the tensors alive at once, each from the node that makes it to the last that reads it."""
    model = case.model
    sizes: dict[str, int] = {}
    nodes = [node for node in model.graph.node if not all(model.is_constant(name) for name in node.output)]
    for name in (*(value.name for value in model.inputs), *(name for node in nodes for name in node.output if name)):
        tensor = model.tensors.get(name)
        elements = None if tensor is None else tensor.static_elements
        if tensor is None or elements is None:
            return None
        sizes[name] = _bytes(case, tensor.elem_type, elements)
    last = {name: number for number, node in enumerate(nodes) for name in node.input if name in sizes}
    last |= {value.name: len(nodes) for value in model.graph.output if value.name in sizes}
    alive = sum(sizes[value.name] for value in model.inputs)
    peak = alive
    for number, node in enumerate(nodes):
        alive += sum(sizes[name] for name in node.output if name)
        peak = max(peak, alive)
        ending = {name for name in (*node.input, *node.output) if name in sizes and last.get(name, number) == number}
        alive -= sum(sizes[name] for name in ending)
    return peak


def _bytes(case: Case, elem_type: int, elements: int) -> int:
    """Floating-point numbers count in the precision that is asked for, everything else as it is written."""
    if case.plan.precision is not None and elem_type in _FLOATS:
        return math.ceil(elements * _BYTES[case.plan.precision])
    try:
        return elements * np.dtype(helper.tensor_dtype_to_np_dtype(elem_type)).itemsize
    except KeyError:
        return elements * 4


def _readable(count: int) -> str:
    return f"{count / _GIB:.3g} GiB" if count >= _GIB else f"{count / _MIB:.3g} MiB"
