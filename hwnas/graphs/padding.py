"""Padding of windows as ONNX states it (``auto_pad`` or ``pads``), as explicit numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas.spaces.padding import same_pads


def explicit_pads(
    stated: Mapping[str, Any], sizes: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """Pixels before and after each spatial axis, [before…, after…], of a window with ``stated`` attributes."""
    automatic = stated.get("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return list(stated.get("pads", [0] * 2 * len(sizes)))
    if automatic == "VALID":
        return [0] * 2 * len(sizes)
    before, after = [], []
    for size, side, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        smaller, larger = same_pads(size, (side - 1) * dilation + 1, stride)
        before.append(smaller if automatic == "SAME_UPPER" else larger)
        after.append(larger if automatic == "SAME_UPPER" else smaller)
    return [*before, *after]
