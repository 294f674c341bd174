"""The MobileNetV3 space of Once-for-All (Cai et al. 2020, Sec. 4.1), block for block.

A stem, one fixed block, stages of elastic depth whose blocks have elastic kernel and expansion, and a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hwnas.spaces.block import Activation, BlockSpec, make_divisible
from hwnas.spaces.space import Choice, Slot, Space

FAMILY = "mobilenet_v3"


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of blocks of one width; the first has ``stride``."""

    width: int
    stride: int
    se: bool
    activation: Activation


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one MobileNetV3 space from another. Widths are in channels, resolutions in pixels."""

    stem_width: int
    first_width: int
    stages: tuple[Stage, ...]
    final_width: int
    feature_width: int
    resolutions: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    num_classes: int


def published_preset(width_multiplier: float) -> Preset:
    """The published once-for-all network at a width multiplier (1.0 or 1.2): MobileNetV3-Large's stages."""

    def scaled(width: int) -> int:
        return make_divisible(width * width_multiplier)

    return Preset(
        stem_width=scaled(16),
        first_width=scaled(16),
        stages=(
            Stage(scaled(24), stride=2, se=False, activation="relu"),
            Stage(scaled(40), stride=2, se=True, activation="relu"),
            Stage(scaled(80), stride=2, se=False, activation="h_swish"),
            Stage(scaled(112), stride=1, se=True, activation="h_swish"),
            Stage(scaled(160), stride=2, se=True, activation="h_swish"),
        ),
        final_width=scaled(960),
        feature_width=scaled(1280),
        resolutions=tuple(range(128, 225, 4)),
        depths=(2, 3, 4),
        kernels=(3, 5, 7),
        expansions=(3, 4, 6),
        num_classes=1000,
    )


PRESETS: dict[str, Preset] = {
    "imagenet-w1.0": published_preset(1.0),
    "imagenet-w1.2": published_preset(1.2),
    # For 24-64 px: three strides after the stem's, thin enough to train on a CPU.
    "small": Preset(
        stem_width=16,
        first_width=16,
        stages=(
            Stage(16, stride=2, se=False, activation="relu"),
            Stage(32, stride=2, se=True, activation="h_swish"),
            Stage(64, stride=2, se=True, activation="h_swish"),
        ),
        final_width=192,
        feature_width=256,
        resolutions=tuple(range(24, 65, 4)),
        depths=(2, 3, 4),
        kernels=(3, 5, 7),
        expansions=(2, 3, 4),
        num_classes=10,
    ),
}


def mobilenet_v3(preset: str, num_classes: int | None = None) -> Space:
    """The space of a preset; ``num_classes`` defaults to that of the preset's own data set."""
    p = PRESETS[preset]
    classes = p.num_classes if num_classes is None else num_classes
    choices = [Choice("resolution", p.resolutions)]
    for s in range(1, len(p.stages) + 1):
        choices.append(Choice(f"stage{s}.depth", p.depths))
        for b in range(1, max(p.depths) + 1):
            active_from = next(index for index, depth in enumerate(p.depths) if depth >= b)
            for kind, values in (("kernel", p.kernels), ("expansion", p.expansions)):
                choices.append(Choice(f"stage{s}.block{b}.{kind}", values, f"stage{s}.depth", active_from))
    return Space(FAMILY, preset, classes, choices, _slots(p, classes))


def _slots(p: Preset, num_classes: int) -> list[Slot]:
    resolution = ("resolution",)
    slots = [
        Slot("stem", resolution, partial(_stem, p)),
        Slot("first", resolution, partial(_first, p)),
    ]
    width, reduction = p.first_width, 2
    for s, stage in enumerate(p.stages, start=1):
        for b in range(1, max(p.depths) + 1):
            stride = stage.stride if b == 1 else 1
            label = f"stage{s}.block{b}"
            build = partial(_elastic, stage, width, reduction, stride)
            slots.append(Slot(label, ("resolution", f"{label}.kernel", f"{label}.expansion"), build))
            width, reduction = stage.width, reduction * stride
    slots.append(Slot("final", resolution, partial(_final, p, width, reduction)))
    slots.append(Slot("head", resolution, partial(_head, p, reduction, num_classes)))
    return slots


def _size(resolution: int, reduction: int) -> int:
    """Feature map size after strided layers with "same" padding: each halves, rounding up."""
    return -(-resolution // reduction)


def _stem(p: Preset, resolution: int | None) -> BlockSpec | None:
    if resolution is None:
        return None
    return BlockSpec("conv", 3, resolution, resolution, p.stem_width, kernel=3, stride=2, activation="h_swish")


def _first(p: Preset, resolution: int | None) -> BlockSpec | None:
    if resolution is None:
        return None
    size = _size(resolution, 2)
    skip = p.stem_width == p.first_width
    return BlockSpec("mbconv", p.stem_width, size, size, p.first_width, p.stem_width, kernel=3, skip=skip)


def _elastic(
    stage: Stage,
    in_channels: int,
    reduction: int,
    stride: int,
    resolution: int | None,
    kernel: int | None,
    expansion: int | None,
) -> BlockSpec | None:
    if resolution is None or kernel is None or expansion is None:
        return None
    size = _size(resolution, reduction)
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
    )


def _final(p: Preset, in_channels: int, reduction: int, resolution: int | None) -> BlockSpec | None:
    if resolution is None:
        return None
    size = _size(resolution, reduction)
    return BlockSpec("conv", in_channels, size, size, p.final_width, activation="h_swish")


def _head(p: Preset, reduction: int, num_classes: int, resolution: int | None) -> BlockSpec | None:
    if resolution is None:
        return None
    size = _size(resolution, reduction)
    return BlockSpec("head", p.final_width, size, size, num_classes, p.feature_width, activation="h_swish")
