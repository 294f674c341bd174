"""What a deep-learning accelerator asks of a model."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.doctor.case import Case
from hwnas.doctor.finding import Finding, Severity
from hwnas.doctor.knowledge import ORIN_DLA, SOURCES
from hwnas.doctor.origin import describe_all

_LARGEST_BATCH, _LARGEST_SIDE = 4096, 8192
_FOLDED = ("QuantizeLinear", "DequantizeLinear", "Constant", "Shape", "ConstantOfShape", "Identity")
"""What is gone when the engine is built: scales go into a calibration table, constants into layers."""


def dla(case: Case) -> Iterator[Finding]:
    """Whether the accelerator can have the model, and which nodes the GPU computes in its place."""
    if not case.plan.on_dla:
        return
    yield from _absent(case)
    if case.plan.precision not in ("fp16", "int8"):
        yield Finding(
            severity=Severity.ERROR,
            code="dla-precision",
            what="A DLA computes in FP16 or INT8 alone.",
            mend="give --precision fp16 or int8",
            source=SOURCES["dla"],
        )
    if case.plan.dynamic_batch:
        yield Finding(
            severity=Severity.ERROR,
            code="dla-dynamic",
            what="A DLA takes no dynamic dimensions.",
            mend="export with a fixed batch",
            source=SOURCES["dla"],
        )
    yield from _fallback(case)
    yield from _too_large(case)


def _absent(case: Case) -> Iterator[Finding]:
    if case.platform.dla_cores == 0:
        yield Finding(
            severity=Severity.ERROR, code="no-dla", what=f"{case.platform.name} has no DLA.", mend="use the GPU"
        )
    elif case.platform.dla_cores is None:
        yield Finding(
            severity=Severity.UNKNOWN,
            code="dla-unknown",
            what="Whether the device has a DLA is not known.",
            mend="give --dla-cores",
        )
    if not case.platform.has_dla:
        yield Finding(
            severity=Severity.ERROR,
            code="dla-not-in-version",
            what=f"TensorRT {case.platform.tensorrt} does not build for DLA: 10.7 was the last before 11.4.1.",
            mend="use the GPU, or a JetPack with TensorRT 10.7 or earlier",
            source=SOURCES["dla"],
        )


def _fallback(case: Case) -> Iterator[Finding]:
    falling = [
        place
        for place in case.model.places
        if place.node.op_type not in ORIN_DLA
        and place.node.op_type not in _FOLDED
        and not all(case.model.is_constant(name) for name in place.node.output)
    ]
    if falling:
        yield Finding(
            severity=Severity.WARNING,
            code="dla-fallback",
            what=f"{len(falling)} nodes do not run on Orin's DLA as they are; the GPU computes them, with copies. "
            "The limits of single layers' sizes are not checked.",
            where=describe_all(case.model, falling),
            mend="replace them with operators that the DLA has, such as HardSwish by Clip, Mul and Add",
            source=SOURCES["dla-operators"],
        )


def _too_large(case: Case) -> Iterator[Finding]:
    large = []
    for name, tensor in case.model.tensors.items():
        sides = [side for side in tensor.dims or () if isinstance(side, int)]
        if (
            name not in case.model.initializers
            and sides
            and (sides[0] > _LARGEST_BATCH or any(side > _LARGEST_SIDE for side in sides[1:]))
        ):
            large.append(f"tensor '{name}' {sides}")
    if large:
        yield Finding(
            severity=Severity.WARNING,
            code="dla-size",
            what=f"A DLA takes a batch of at most {_LARGEST_BATCH} and other sides of at most {_LARGEST_SIDE}.",
            where=tuple(large[:5]),
            mend="the GPU computes the layers concerned",
            source=SOURCES["dla"],
        )
