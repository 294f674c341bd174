"""SqueezeNet's modules as a space (Iandola et al. 2016): a stem, stages of fires with max pools between them, a head.

Around SqueezeNet 1.1, which the authors published with their code: its widths, depths and pools are among the choices.
Other than there, each convolution has a batch norm, so that it trains without care; convolutions and pools are padded,
so that each stride halves the feature map, rounding up; and the classifier follows the global pool, which without the
ReLU between them is the same and takes one product a class and channel rather than one a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from hwnas.spaces.architecture import Architecture
from hwnas.spaces.block import BlockSpec, make_divisible
from hwnas.spaces.family import Family, depth_choices, reduced
from hwnas.spaces.space import Choice, Slot, Space

WHOLE = 16
"""All shares are in sixteenths."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of fires with ``width`` channels at :data:`WHOLE`; ``pool``: behind a max pool that halves."""

    width: int
    pool: bool
    depths: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one such space from another.

    Resolutions are in pixels; ``widths`` are shares of the stem's and the stages' channels, ``squeezes`` and
    ``spatials`` shares of a fire's output channels: those after its squeeze, and those of its 3×3 filters.
    """

    stem_width: int
    stages: tuple[Stage, ...]
    resolutions: tuple[int, ...]
    num_classes: int
    widths: tuple[int, ...] = (12, WHOLE)
    squeezes: tuple[int, ...] = (2, 4, 8)
    spatials: tuple[int, ...] = (4, 8)
    bypass: bool = False
    """Whether each fire but the first of a stage adds its input to its output (Iandola et al. 2016, Sec. 6)."""


_IMAGENET = Preset(
    stem_width=64,
    stages=(Stage(128, pool=True), Stage(256, pool=True), Stage(384, pool=True), Stage(512, pool=False)),
    resolutions=(128, 160, 192, 224),
    num_classes=1000,
)
# For 32-64 px: half as wide, and without the stem's pool.
_SMALL = Preset(
    stem_width=32,
    stages=(Stage(64, pool=False), Stage(128, pool=True), Stage(192, pool=True), Stage(256, pool=False)),
    resolutions=(32, 48, 64),
    num_classes=10,
)
PRESETS: dict[str, Preset] = {
    "imagenet": _IMAGENET,
    "imagenet-bypass": replace(_IMAGENET, bypass=True),
    "small": _SMALL,
    "small-bypass": replace(_SMALL, bypass=True),
}


def squeezenet(space: Space, resolution: int | None = None) -> Architecture:
    """SqueezeNet 1.1 among the architectures of ``fire/imagenet``, and what is nearest to it in the other presets.

    Raises:
        UserError: the space has not this resolution, which by default is its largest.
    """
    labels = {"depth": 2, "squeeze": 2, "spatial": 8, "width": WHOLE}
    chosen = {c.label.replace(".", "_"): labels.get(c.label.rpartition(".")[2]) for c in space.choices}
    chosen["resolution"] = resolution or space.resolutions[-1]
    return space.architecture(**{label: value for label, value in chosen.items() if value is not None})


def choices(p: Preset) -> list[Choice]:
    """Resolution, the stem's width, and of each stage its width, its depth and its fires' shares."""
    found = [Choice("resolution", p.resolutions), Choice("stem.width", p.widths)]
    for s, stage in enumerate(p.stages, start=1):
        found.append(Choice(f"stage{s}.width", p.widths))
        found += depth_choices(f"stage{s}", stage.depths, {"squeeze": p.squeezes, "spatial": p.spatials})
    return found


def slots(p: Preset, num_classes: int) -> list[Slot]:
    """The network from stem to head."""
    found = [Slot("stem", ("resolution", "stem.width"), partial(_stem, p.stem_width))]
    before, channels, reduction = "stem.width", p.stem_width, 2
    for s, stage in enumerate(p.stages, start=1):
        if stage.pool:
            found.append(Slot(f"stage{s}.pool", ("resolution", before), partial(_pool, channels, reduction)))
            reduction *= 2
        after = f"stage{s}.width"
        for b in range(1, max(stage.depths) + 1):
            label = f"stage{s}.block{b}"
            shares = (f"{label}.squeeze", f"{label}.spatial")
            if b == 1:
                build = partial(_first_fire, channels, stage.width, reduction)
                found.append(Slot(label, ("resolution", before, after, *shares), build))
            else:
                build = partial(_further_fire, stage.width, reduction, p.bypass)
                found.append(Slot(label, ("resolution", after, *shares), build))
        before, channels = after, stage.width
    found.append(Slot("head", ("resolution", before), partial(_head, channels, reduction, num_classes)))
    return found


def _share(channels: int, sixteenths: int) -> int:
    return make_divisible(channels * sixteenths / WHOLE)


def _stem(channels: int, resolution: int, width: int) -> BlockSpec:
    return BlockSpec("conv", 3, resolution, resolution, _share(channels, width), kernel=3, stride=2)


def _pool(channels: int, reduction: int, resolution: int, width: int) -> BlockSpec:
    size, kept = reduced(resolution, reduction), _share(channels, width)
    return BlockSpec("max_pool", kept, size, size, kept, kernel=3, stride=2, activation="none")


def _first_fire(
    channels_before: int,
    channels: int,
    reduction: int,
    resolution: int,
    before: int,
    width: int,
    squeeze: int,
    spatial: int,
) -> BlockSpec:
    size = reduced(resolution, reduction)
    return _fire(_share(channels_before, before), size, _share(channels, width), squeeze, spatial)


def _further_fire(
    channels: int,
    reduction: int,
    bypass: bool,
    resolution: int,
    width: int,
    squeeze: int,
    spatial: int,
) -> BlockSpec:
    out = _share(channels, width)
    return _fire(out, reduced(resolution, reduction), out, squeeze, spatial, bypass)


def _fire(ins: int, size: int, outs: int, squeeze: int, spatial: int, bypass: bool = False) -> BlockSpec:
    mid = _share(outs, squeeze)
    return BlockSpec("fire", ins, size, size, outs, mid, 3, skip=bypass, spatial_channels=_share(outs, spatial))


def _head(channels: int, reduction: int, num_classes: int, resolution: int, width: int) -> BlockSpec:
    size = reduced(resolution, reduction)
    return BlockSpec("head", _share(channels, width), size, size, num_classes, activation="none")


FAMILY = Family("fire", PRESETS, choices, slots)
