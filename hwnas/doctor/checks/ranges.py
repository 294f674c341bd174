"""Numbers that FP16 cannot hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto

from hwnas.doctor.case import Case
from hwnas.doctor.checks.types import written_precision
from hwnas.doctor.finding import Finding, Severity

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_TINY_SHARE = 0.01
"""Of a tensor's weights that may become zero unmentioned."""


def ranges(case: Case) -> Iterator[Finding]:
    """Weights and constants that overflow or vanish in FP16, and those that are no numbers in any precision."""
    in_half = case.plan.precision in ("fp16", "int8") or written_precision(case) == "fp16"
    overflowing, vanishing, broken = [], [], []
    for name, tensor in case.model.initializers.items():
        if tensor.data_type not in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
            continue
        value = case.model.value(name)
        if value is None or not value.size:
            continue
        size = np.abs(value.astype(np.float64))
        if not np.isfinite(size).all():
            broken.append(f"'{name}'")
        elif in_half and size.max() > _LARGEST:
            overflowing.append(f"'{name}', up to {size.max():.4g}")
        elif in_half and (lost := float(np.mean((size > 0) & (size < _SMALLEST / 2)))) > _TINY_SHARE:
            vanishing.append(f"'{name}', {100 * lost:.3g} % of its values")
    if broken:
        yield Finding(
            severity=Severity.WARNING,
            code="not-finite",
            what="Weights are infinite or not a number, so the engine's outputs will be too.",
            where=tuple(broken),
            mend="train or export again",
        )
    if overflowing:
        yield Finding(
            severity=Severity.WARNING,
            code="fp16-overflow",
            what=f"Constants exceed FP16's largest number, {_LARGEST:g}, and become infinite.",
            where=tuple(overflowing),
            mend="keep these layers in FP32, or write a mask's 'minus infinity' as -65504",
        )
    if vanishing:
        yield Finding(
            severity=Severity.WARNING,
            code="fp16-underflow",
            what="Weights are smaller than FP16's smallest number and become zero.",
            where=tuple(vanishing),
            mend="keep these layers in FP32",
        )
