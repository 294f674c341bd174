"""A small space whose networks branch: searched operations and connections, an elastic width, wires, two outputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from hwnas.spaces import BlockSpec, Choice, Slot, Space

IDENTITY, POOL, CONV = 0, 1, 2
STEM, LEFT = 0, 1


def branching_space() -> Space:
    choices = [
        Choice("resolution", (8, 12)),
        Choice("width", (8, 16)),
        Choice("left.operation", (IDENTITY, POOL, CONV)),
        Choice("right.source", (STEM, LEFT)),
    ]
    sized = ("resolution", "width")
    slots = [
        Slot("stem", sized, partial(_block, "conv", ins=0)),
        Slot("left", (*sized, "left.operation"), _left),
        Slot("right", (*sized, "right.source"), _right, _right_reads),
        Slot("sum", sized, partial(_block, "add"), lambda *_: ("right", "left")),
        Slot("joined", sized, partial(_block, "concat", outs=3), lambda *_: ("stem", "sum", "left")),
        Slot("features", sized, partial(_block, "conv", ins=3), output="features"),
        Slot("head", sized, partial(_block, "head", ins=3), lambda *_: ("joined",), output="logits"),
    ]
    return Space("toy", "branching", 10, choices, slots)


def _block(op: str, resolution: int, width: int, ins: int = 1, outs: int = 1) -> BlockSpec:
    """With so many times the width of channels; no times: of images."""
    if op == "head":
        return BlockSpec(op, ins * width, resolution, resolution, 10, activation="none")
    kernel = 3 if op == "conv" else 1
    return BlockSpec(op, ins * width or 3, resolution, resolution, outs * width, kernel=kernel)


def _left(resolution: int, width: int, operation: int) -> BlockSpec | None:
    if operation == IDENTITY:
        return None
    if operation == POOL:
        return BlockSpec("max_pool", width, resolution, resolution, width, kernel=3, activation="none")
    return BlockSpec("conv", width, resolution, resolution, width, kernel=3)


def _right(resolution: int, width: int, _: int) -> BlockSpec:
    return BlockSpec("bottleneck", width, resolution, resolution, width, width, 3, skip=True)


def _right_reads(values: Mapping[str, int]) -> tuple[str]:
    return ("left",) if values["right.source"] == LEFT else ("stem",)
