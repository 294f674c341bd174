"""Element types and precisions that a version of TensorRT or a GPU does not have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from hwnas.doctor.case import Case, Precision
from hwnas.doctor.finding import Finding, Severity
from hwnas.doctor.knowledge import SOURCES
from hwnas.doctor.version import Version

_FP8 = (TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2FNUZ)
_INT64_SINCE = Version(9, 0)
_STRONGLY_TYPED_SINCE = Version(10, 0)
"""From here on hwnas builds strongly typed networks; before, the builder's flags choose among FP32 and FP16."""
_NO_INT8 = ((5, 3), (6, 2))
_OLDEST_GPU = {Version(10, 0): (7, 0), Version(10, 5): (7, 5)}
_BLACKWELL, _BLACKWELL_SINCE = (10, 0), Version(10, 8)


@dataclass(frozen=True)
class _Need:
    """The first version and the first compute capability that have a type."""

    name: str
    types: tuple[int, ...]
    version: Version
    gpu: tuple[int, int]


_NEEDS = (
    _Need("BF16", (TensorProto.BFLOAT16,), Version(9, 0), (8, 0)),
    _Need("FP8", _FP8, Version(9, 0), (8, 9)),
    _Need("INT4", (TensorProto.INT4,), Version(10, 0), (0, 0)),
    _Need("FP4", (TensorProto.FLOAT4E2M1,), Version(10, 8), (10, 0)),
)
_UNSUPPORTED = {
    TensorProto.STRING: "texts",
    TensorProto.COMPLEX64: "complex numbers",
    TensorProto.COMPLEX128: "complex numbers",
    TensorProto.INT16: "INT16",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.UINT4: "UINT4",
}


def types(case: Case) -> Iterator[Finding]:
    """Types that the version or the GPU does not have, and those that it casts."""
    tensors = {name: tensor.elem_type for name, tensor in case.model.tensors.items()}
    for need in _NEEDS:
        named = _named(tensors, need.types)
        if named or (case.plan.precision or "").upper() == need.name:
            yield from _missing(case, need, named)
    for kind, called in _UNSUPPORTED.items():
        if named := _named(tensors, (kind,)):
            yield Finding(
                severity=Severity.ERROR,
                code="type-unsupported",
                what=f"TensorRT has no {called}.",
                where=named,
                mend="compute this part outside of the engine",
                source=SOURCES[str(Version(10, 15))],
            )
    if named := _named(tensors, (TensorProto.DOUBLE,)):
        yield Finding(
            severity=Severity.WARNING,
            code="double-cast",
            what="FP64 tensors are cast to FP32, values beyond its range are clamped.",
            where=named,
            mend="export in FP32",
            source=SOURCES["8.5"],
        )
    yield from _clamped_integers(case)


def hardware(case: Case) -> Iterator[Finding]:
    """GPUs that a version, or INT8, does not run on."""
    gpu = case.platform.gpu
    if gpu is None:
        yield Finding(
            severity=Severity.UNKNOWN,
            code="gpu-unknown",
            what="The GPU's compute capability is not known, so its precisions are not checked.",
            mend="give --compute-capability",
        )
        return
    oldest = max((known for first, known in _OLDEST_GPU.items() if case.version >= first), default=(0, 0))
    if gpu < oldest:
        yield Finding(
            severity=Severity.ERROR,
            code="gpu-too-old",
            what=f"TensorRT {case.version} needs compute capability {_dotted(oldest)}; this GPU has {_dotted(gpu)}.",
            source=SOURCES["gpus"],
        )
    if gpu >= _BLACKWELL and case.version < _BLACKWELL_SINCE:
        yield Finding(
            severity=Severity.ERROR,
            code="gpu-too-new",
            what=f"TensorRT {case.version} has no compute capability {_dotted(gpu)}; {_BLACKWELL_SINCE} brought it.",
            mend="install a later TensorRT",
            source=SOURCES["gpus"],
        )
    if gpu in _NO_INT8 and (case.plan.precision == "int8" or _is_quantised(case)):
        yield Finding(
            severity=Severity.ERROR,
            code="no-int8",
            what=f"A GPU of compute capability {_dotted(gpu)} does not compute in INT8.",
            mend="take FP16",
            source=SOURCES["precision"],
        )


def precision(case: Case) -> Iterator[Finding]:
    """Whether the model is written in the precision that is asked for, where the library takes it from there alone."""
    wanted = case.plan.precision
    if wanted is None:
        return
    written = written_precision(case)
    if wanted in ("int8", "fp8"):
        if written != wanted:
            yield Finding(
                severity=Severity.ERROR,
                code="not-quantised",
                what=f"{wanted.upper()} is asked for, but the model has no Q/DQ pairs of it.",
                mend="quantise it with real calibration images; hwnas builds from explicit Q/DQ alone",
            )
    elif written != wanted and case.version >= _STRONGLY_TYPED_SINCE:
        yield Finding(
            severity=Severity.ERROR,
            code="not-in-precision",
            what=f"{wanted.upper()} is asked for, but the model is written in {written.upper()}, and for TensorRT "
            f"{case.version} hwnas builds strongly typed networks, in the types of the model.",
            mend=f"convert the model to {wanted.upper()} (for FP16, AutoCast)",
        )


def written_precision(case: Case) -> Precision:
    """The lowest precision in which the model's weights or Q/DQ pairs are written."""
    kinds = {tensor.elem_type for tensor in case.model.tensors.values()}
    if kinds & set(_FP8):
        return "fp8"
    if _is_quantised(case):
        return "int8"
    weights = {
        tensor.data_type for tensor in case.model.graph.initializer if tensor.data_type in _FLOATS and tensor.dims
    }
    if weights == {TensorProto.FLOAT16}:
        return "fp16"
    return "bf16" if weights == {TensorProto.BFLOAT16} else "fp32"


_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def _is_quantised(case: Case) -> bool:
    return any(place.node.op_type == "QuantizeLinear" for place in case.model.places)


def _missing(case: Case, need: _Need, named: tuple[str, ...]) -> Iterator[Finding]:
    if case.version < need.version:
        yield Finding(
            severity=Severity.ERROR,
            code="type-too-new",
            what=f"TensorRT {case.version} has no {need.name}; {need.version} brought it.",
            where=named,
            mend="convert the model to FP16 or FP32",
            source=SOURCES["changelog"],
        )
    gpu = case.platform.gpu
    if gpu is not None and gpu < need.gpu:
        yield Finding(
            severity=Severity.ERROR,
            code="type-not-on-gpu",
            what=f"A GPU of compute capability {_dotted(gpu)} has no {need.name}; it needs {_dotted(need.gpu)}.",
            where=named,
            mend="convert the model to FP16, or take INT8",
            source=SOURCES["precision"],
        )


def _clamped_integers(case: Case) -> Iterator[Finding]:
    """INT64 constants beyond INT32 where INT64 is cast down."""
    if case.version >= _INT64_SINCE:
        return
    limits = np.iinfo(np.int32)
    beyond = []
    for name, tensor in case.model.initializers.items():
        value = case.model.value(name) if tensor.data_type == TensorProto.INT64 else None
        if value is not None and value.size and (value.max() > limits.max or value.min() < limits.min):
            beyond.append(
                f"'{name}', up to {value.max()}" if value.max() > limits.max else f"'{name}', from {value.min()}"
            )
    if beyond:
        # Exporters write "to the end" as the largest INT64, which clamping leaves as it is meant.
        yield Finding(
            severity=Severity.WARNING,
            code="int64-clamped",
            what=f"TensorRT {case.version} casts INT64 to INT32 and clamps these constants.",
            where=tuple(beyond),
            mend="check that they only mean 'to the end', as in a Slice",
            source=SOURCES["8.5"],
        )


def _named(tensors: dict[str, int], kinds: tuple[int, ...]) -> tuple[str, ...]:
    found = [f"tensor '{name}'" for name, kind in tensors.items() if kind in kinds]
    return (*found[:5], f"and {len(found) - 5} more") if len(found) > 5 else tuple(found)


def _dotted(gpu: tuple[int, int]) -> str:
    return f"{gpu[0]}.{gpu[1]}"
