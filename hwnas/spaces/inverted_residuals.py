"""Networks of inverted residuals, as Once-for-All has them (Cai et al. 2020, Sec. 4.1): what their families share.

A stem, one fixed block, stages of elastic depth whose blocks have elastic kernel and expansion, and a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hwnas.spaces.block import Activation, BlockSpec, make_divisible
from hwnas.spaces.family import depth_choices, reduced
from hwnas.spaces.padding import Padding
from hwnas.spaces.space import Choice, Slot


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of blocks of one width; the first has ``stride``."""

    width: int
    stride: int
    se: bool
    activation: Activation
    depths: tuple[int, ...] = (2, 3, 4)


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one such space from another. Widths are in channels, resolutions in pixels."""

    stem_width: int
    stem_activation: Activation
    first_width: int
    first_activation: Activation
    first_skip: bool
    stages: tuple[Stage, ...]
    final_width: int
    final_activation: Activation
    feature_width: int
    """Between pooling and classifier; 0 for none."""
    resolutions: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    num_classes: int
    padding: Padding = "symmetric"
    """Of the convolutions with a stride."""


def choices(p: Preset) -> list[Choice]:
    """Resolution, and of each stage its depth and its blocks' kernels and expansions."""
    inside = {"kernel": p.kernels, "expansion": p.expansions}
    staged = (depth_choices(f"stage{s}", stage.depths, inside) for s, stage in enumerate(p.stages, start=1))
    return [Choice("resolution", p.resolutions), *(choice for stage in staged for choice in stage)]


def slots(p: Preset, num_classes: int) -> list[Slot]:
    """The network from stem to head."""
    resolution = ("resolution",)
    found = [Slot("stem", resolution, partial(_stem, p)), Slot("first", resolution, partial(_first, p))]
    width, reduction = p.first_width, 2
    for s, stage in enumerate(p.stages, start=1):
        for b in range(1, max(stage.depths) + 1):
            stride = stage.stride if b == 1 else 1
            label = f"stage{s}.block{b}"
            build = partial(_elastic, stage, width, reduction, stride, p.padding if stride > 1 else "symmetric")
            found.append(Slot(label, ("resolution", f"{label}.kernel", f"{label}.expansion"), build))
            width, reduction = stage.width, reduction * stride
    found.append(Slot("final", resolution, partial(_final, p, width, reduction)))
    found.append(Slot("head", resolution, partial(_head, p, reduction, num_classes)))
    return found


def _stem(p: Preset, resolution: int) -> BlockSpec:
    size, activation = resolution, p.stem_activation
    return BlockSpec("conv", 3, size, size, p.stem_width, kernel=3, stride=2, activation=activation, padding=p.padding)


def _first(p: Preset, resolution: int) -> BlockSpec:
    size = reduced(resolution, 2)
    return BlockSpec(
        "mbconv",
        p.stem_width,
        size,
        size,
        p.first_width,
        p.stem_width,
        kernel=3,
        activation=p.first_activation,
        skip=p.first_skip,
    )


def _elastic(
    stage: Stage,
    in_channels: int,
    reduction: int,
    stride: int,
    padding: Padding,
    resolution: int,
    kernel: int,
    expansion: int,
) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec(
        "mbconv",
        in_channels,
        size,
        size,
        stage.width,
        make_divisible(in_channels * expansion),
        kernel,
        stride,
        stage.se,
        stage.activation,
        skip=stride == 1 and in_channels == stage.width,
        padding=padding,
    )


def _final(p: Preset, in_channels: int, reduction: int, resolution: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec("conv", in_channels, size, size, p.final_width, activation=p.final_activation)


def _head(p: Preset, reduction: int, num_classes: int, resolution: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    activation = p.final_activation if p.feature_width else "none"
    return BlockSpec("head", p.final_width, size, size, num_classes, p.feature_width, activation=activation)
