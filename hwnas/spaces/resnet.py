"""The ResNet-50 space of Once-for-All: bottlenecks of elastic depth, width and expansion, for large GPUs.

As the published once-for-all network ``ofa_resnet50_d=0+1+2_e=0.2+0.25+0.35_w=0.65+0.8+1.0`` has it (``OFAResNets``
of the package ``ofa``): a stem of three convolutions, the middle one residual and optional, and a max pool (He et al.
2019, "Bag of Tricks", Fig. 2); four stages of [2, 2, 4, 2] bottlenecks and up to two more, each stage with a width of
its own.  Since a width is chosen for a stage, its first block depends on the width of the stage before it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hwnas.spaces.block import BlockSpec, make_divisible
from hwnas.spaces.family import Family, depth_choices, reduced
from hwnas.spaces.space import Choice, Slot


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of bottlenecks of ``width`` channels at 100 %; the first has ``stride``."""

    width: int
    stride: int
    depths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one ResNet space from another.

    Widths are percents of the stem's and stages' channels, expansions percents of a block's output channels that it
    has inside, resolutions are in pixels.  All strides divide each resolution, so that every pool covers its input.
    """

    stem_width: int
    """Of the stem's last convolution; the others have half of it."""
    pool: bool
    """Whether a max pool halves the stem's feature map."""
    stages: tuple[Stage, ...]
    resolutions: tuple[int, ...]
    stem_widths: tuple[int, ...]
    """Of the stem's first convolutions."""
    widths: tuple[int, ...]
    expansions: tuple[int, ...]
    num_classes: int


PRESETS: dict[str, Preset] = {
    "imagenet": Preset(
        stem_width=64,
        pool=True,
        stages=(
            Stage(256, 1, depths=(2, 3, 4)),
            Stage(512, 2, depths=(2, 3, 4)),
            Stage(1024, 2, depths=(4, 5, 6)),
            Stage(2048, 2, depths=(2, 3, 4)),
        ),
        resolutions=(128, 160, 192, 224),
        stem_widths=(80, 100),  # at 65 % there are as many channels as at 80 %
        widths=(65, 80, 100),
        expansions=(20, 25, 35),
        num_classes=1000,
    ),
    # For 32-64 px: thin enough to train on a CPU; percents are farther apart, since channels are multiples of 8.
    "small": Preset(
        stem_width=32,
        pool=False,
        stages=(Stage(64, 2, depths=(1, 2, 3)), Stage(128, 2, depths=(1, 2, 3)), Stage(256, 2, depths=(1, 2, 3))),
        resolutions=(32, 48, 64),
        stem_widths=(50, 100),
        widths=(50, 75, 100),
        expansions=(25, 50, 75),
        num_classes=10,
    ),
}


def choices(p: Preset) -> list[Choice]:
    """Resolution, the stem's depth and widths, and of each stage its width, depth and its blocks' expansions."""
    found = [
        Choice("resolution", p.resolutions),
        Choice("stem.depth", (2, 3)),
        Choice("stem.inner_width", p.stem_widths),
        Choice("stem.width", p.widths),
    ]
    for s, stage in enumerate(p.stages, start=1):
        found.append(Choice(f"stage{s}.width", p.widths))
        found += depth_choices(f"stage{s}", stage.depths, {"expansion": p.expansions})
    return found


def slots(p: Preset, num_classes: int) -> list[Slot]:
    """The network from stem to head."""
    found = [
        Slot("stem.conv1", ("resolution", "stem.inner_width"), partial(_stem_first, p)),
        Slot("stem.conv2", ("resolution", "stem.inner_width", "stem.depth"), partial(_stem_residual, p)),
        Slot("stem.conv3", ("resolution", "stem.inner_width", "stem.width"), partial(_stem_last, p)),
    ]
    reduction = 2
    if p.pool:
        found.append(Slot("stem.pool", ("resolution", "stem.width"), partial(_pool, p)))
        reduction = 4
    before, channels = "stem.width", p.stem_width
    for s, stage in enumerate(p.stages, start=1):
        after = f"stage{s}.width"
        for b in range(1, max(stage.depths) + 1):
            label = f"stage{s}.block{b}"
            if b == 1:
                build = partial(_first_block, channels, stage, reduction)
                found.append(Slot(label, ("resolution", before, after, f"{label}.expansion"), build))
                reduction *= stage.stride
            else:
                build = partial(_further_block, stage.width, reduction)
                found.append(Slot(label, ("resolution", after, f"{label}.expansion"), build))
        before, channels = after, stage.width
    found.append(Slot("head", ("resolution", before), partial(_head, channels, reduction, num_classes)))
    return found


def _share(channels: int, percent: int) -> int:
    return make_divisible(channels * percent / 100)


def _inner(p: Preset, percent: int) -> int:
    """Channels inside the stem."""
    return make_divisible(_share(p.stem_width, percent) // 2)


def _stem_first(p: Preset, resolution: int, inner: int) -> BlockSpec:
    return BlockSpec("conv", 3, resolution, resolution, _inner(p, inner), kernel=3, stride=2)


def _stem_residual(p: Preset, resolution: int, inner: int, depth: int) -> BlockSpec | None:
    if depth != 3:
        return None
    size, channels = reduced(resolution, 2), _inner(p, inner)
    return BlockSpec("conv", channels, size, size, channels, kernel=3, skip=True)


def _stem_last(p: Preset, resolution: int, inner: int, width: int) -> BlockSpec:
    size = reduced(resolution, 2)
    return BlockSpec("conv", _inner(p, inner), size, size, _share(p.stem_width, width), kernel=3)


def _pool(p: Preset, resolution: int, width: int) -> BlockSpec:
    size, channels = reduced(resolution, 2), _share(p.stem_width, width)
    return BlockSpec("max_pool", channels, size, size, channels, kernel=3, stride=2, activation="none")


def _first_block(
    channels_before: int, stage: Stage, reduction: int, resolution: int, before: int, width: int, expansion: int
) -> BlockSpec:
    size, out = reduced(resolution, reduction), _share(stage.width, width)
    return BlockSpec(
        "bottleneck", _share(channels_before, before), size, size, out, _mid(out, expansion), 3, stage.stride
    )


def _further_block(channels: int, reduction: int, resolution: int, width: int, expansion: int) -> BlockSpec:
    size, out = reduced(resolution, reduction), _share(channels, width)
    return BlockSpec("bottleneck", out, size, size, out, _mid(out, expansion), 3, skip=True)


def _mid(out_channels: int, percent: int) -> int:
    return make_divisible(round(out_channels * percent / 100))


def _head(channels: int, reduction: int, num_classes: int, resolution: int, width: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec("head", _share(channels, width), size, size, num_classes, activation="none")


FAMILY = Family("resnet", PRESETS, choices, slots)
