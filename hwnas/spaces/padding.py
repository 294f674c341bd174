"""How many pixels a window of a convolution reaches beyond its input."""

from __future__ import annotations

from typing import Literal

Padding = Literal["symmetric", "same_upper"]
"""``symmetric``: half the kernel on each side. ``same_upper``, as ONNX calls TensorFlow's "same": just what
⌈size/stride⌉ windows need, an odd pixel at the end. They differ where a stride meets an even size."""


def same_pads(size: int, reach: int, stride: int) -> tuple[int, int]:
    """Pixels before and after an axis of ``size`` that ⌈size/stride⌉ windows of ``reach`` pixels need."""
    total = max(0, (-(-size // stride) - 1) * stride + reach - size)
    return total // 2, total - total // 2


def pads(size: int, kernel: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Pixels before and after an axis; with either padding there are ⌈size/stride⌉ windows of an odd kernel."""
    return same_pads(size, kernel, stride) if padding == "same_upper" else (kernel // 2, kernel // 2)
