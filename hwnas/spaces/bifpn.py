"""Spaces of detectors: the backbone of any family, a BiFPN, and towers for classes and boxes.

Tan et al. 2020, "EfficientDet", Sec. 3 and 4.  Beside the backbone's choices there are the width of all of the head,
the number of times that the BiFPN is repeated, and that of the towers' layers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hwnas.spaces.block import Activation, BlockSpec
from hwnas.spaces.family import Family, always
from hwnas.spaces.space import Choice, Reads, Slot

ANCHORS = 9
"""Boxes that a detector starts from at each place of each level."""
CLASSIFIER = ("final", "head")
"""Slots of a backbone that only a classifier needs."""
SUFFIX = "-bifpn"
ACTIVATIONS: dict[str, Activation] = {"mobilenet_v3": "h_swish", "proxyless": "relu6"}
"""Of heads behind backbones of these families; of others it is ReLU."""
WIDTH, DEPTH, TOWERS = "bifpn.width", "bifpn.depth", "towers.depth"


@dataclass(frozen=True, slots=True)
class Preset:
    """What distinguishes one such space from another.

    Attributes:
        backbone, backbone_preset: the family and its preset.
        levels: input pixels for a pixel of each level, each twice as many as of the one before; levels that the
            backbone does not reach are max pools of the one before.
        resolutions: in pixels, multiples of the last of ``levels``.
        widths, depths, tower_depths: in channels, repeats and layers.
    """

    backbone: Family[Any]
    backbone_preset: str
    activation: Activation
    levels: tuple[int, ...]
    resolutions: tuple[int, ...]
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    tower_depths: tuple[int, ...]
    num_classes: int = 80


def detector_family(backbone: Family[Any]) -> Family[Preset]:
    """The detectors with the backbones of a family, a preset for each of its own."""
    presets = {name: _preset(backbone, name) for name in backbone.presets}
    return Family(backbone.name + SUFFIX, presets, choices, slots, backbone.norm_eps, task="detection")


def _preset(backbone: Family[Any], name: str) -> Preset:
    """From below EfficientDet-D0 to D1 (Table 1), or for the small pictures that presets called ``small`` are for."""
    activation = ACTIVATIONS.get(backbone.name, "relu")
    if name.startswith("small"):
        return Preset(backbone, name, activation, (4, 8, 16, 32), (64, 96), (24, 32, 48), (1, 2), (1, 2))
    return Preset(
        backbone, name, activation, (8, 16, 32, 64, 128), (256, 384, 512, 640), (48, 64, 88), (2, 3, 4), (2, 3)
    )


def choices(p: Preset) -> list[Choice]:
    """The backbone's, at resolutions that all levels divide, and the head's."""
    inherited = p.backbone.choices(p.backbone.presets[p.backbone_preset])
    resolution = Choice("resolution", p.resolutions)
    head = [Choice(WIDTH, p.widths), Choice(DEPTH, p.depths), Choice(TOWERS, p.tower_depths)]
    return [*(resolution if choice.label == "resolution" else choice for choice in inherited), *head]


def slots(p: Preset, num_classes: int) -> list[Slot]:
    """The backbone without its classifier, what is taken from it, the BiFPN, the towers."""
    backbone = p.backbone.slots(p.backbone.presets[p.backbone_preset], num_classes)
    found = [slot for slot in backbone if slot.label not in CLASSIFIER]
    inputs = list(_inputs(p))
    found += inputs
    current = [slot.label for slot in inputs if slot.label.endswith(".input")]
    for repeat in range(1, max(p.depths) + 1):
        added, current = _bifpn(p, repeat, current)
        found += added
    for kind, channels in (("class", ANCHORS * num_classes), ("box", ANCHORS * 4)):
        found += _tower(p, kind, channels, current)
    return found


# --- from the backbone to the levels --------------------------------------------------------------------------


def _inputs(p: Preset) -> Iterator[Slot]:
    """A 1×1 convolution from each feature map that the backbone has, and max pools for the coarser levels."""
    taps = _taps(p)
    for reduction, tap in taps.items():
        yield _lateral(tap, f"p{reduction}.input")
    yield _lateral(taps[max(taps)], "pooled")
    before = "pooled"
    for reduction in p.levels[len(taps) :]:
        label = f"p{reduction}.input"
        yield Slot(label, ("resolution", WIDTH), partial(_pool, reduction // 2), always(before))
        before = label


@dataclass(frozen=True, slots=True)
class _Tap:
    """The last feature map of a backbone at some reduction: what reads it, and a slot that is never empty.

    Whichever slot gives the map, it has as many channels as that one's: what reads it does not know which is there.
    """

    reads: Reads
    given: Slot
    values: dict[str, tuple[int, ...]]

    def shape(self, values: Sequence[int]) -> list[int]:
        """Of the feature map, for values of the choices of ``given``."""
        block = self.given.build(*values)
        assert block is not None
        return list(block.output_shape)

    def deciding(self) -> list[str]:
        """The choices that the shape depends on."""
        labels = self.given.choices
        every = [self.values[label] for label in labels]
        largest = [values[-1] for values in every]
        return [
            label
            for place, label in enumerate(labels)
            if len({tuple(self.shape([*largest[:place], v, *largest[place + 1 :]])) for v in every[place]}) > 1
        ]


def _taps(p: Preset) -> dict[int, _Tap]:
    """What is taken from the backbone, by its reduction."""
    space = p.backbone.space(p.backbone_preset)
    least, most = space.slot_blocks(space.smallest), space.slot_blocks(space.largest)
    values = {choice.label: choice.values for choice in choices(p)}
    found: dict[int, _Tap] = {}
    given = space.slots[0]
    classifier = next(slot for slot in space.slots if slot.label in CLASSIFIER)
    for slot, smallest, largest in zip(space.slots[: space.slots.index(classifier)], least, most, strict=False):
        if smallest is not None:
            given = slot
        if largest is not None:
            found[round(space.resolutions[-1] / largest.out_height)] = _Tap(always(slot.label), given, values)
    if classifier.reads is not None:  # an empty cell is no wire
        coarsest = max(found)
        found[coarsest] = replace(found[coarsest], reads=classifier.reads)
    return {reduction: found[reduction] for reduction in p.levels if reduction in found}


def _lateral(tap: _Tap, label: str) -> Slot:
    deciding = tap.deciding()

    def build(*values: int) -> BlockSpec:
        *own, width = values
        chosen = dict(zip(deciding, own, strict=True))
        channels, height, across = tap.shape([chosen.get(each, tap.values[each][-1]) for each in tap.given.choices])
        return BlockSpec("conv", channels, height, across, width, activation="none")

    return Slot(label, (*deciding, WIDTH), build, tap.reads)


def _pool(reduction: int, resolution: int, width: int) -> BlockSpec:
    size = resolution // reduction
    return BlockSpec("max_pool", width, size, size, width, kernel=3, stride=2, activation="none")


# --- BiFPN ----------------------------------------------------------------------------------------------------


def _bifpn(p: Preset, repeat: int, current: list[str]) -> tuple[list[Slot], list[str]]:
    """One repeat: from the coarsest level down to the finest, and up again (Fig. 2d); and what each level gives.

    ``current`` are the slots that give its levels, to which a repeat that is left out is a wire.
    """
    found: list[Slot] = []

    def node(label: str, op: str, reduction: int, reads: Sequence[str]) -> str:
        chosen = ("resolution", WIDTH, DEPTH)
        label = f"bifpn{repeat}.p{reduction}.{label}"
        fuse = partial(_repeated, repeat, op, reduction, p.activation)
        conv = partial(_repeated, repeat, "separable_conv", reduction, "none")
        found.append(Slot(f"{label}.fuse", chosen, fuse, always(*reads)))
        found.append(Slot(label, chosen, conv))
        return label

    down = {len(current) - 1: current[-1]}
    for level in reversed(range(len(current) - 1)):
        down[level] = node("down", "fuse_coarser", p.levels[level], (current[level], down[level + 1]))
    given = [down[0]]
    for level in range(1, len(current)):
        if level < len(current) - 1:
            reads = (current[level], down[level], given[-1])
            given.append(node("up", "fuse_finer_twice", p.levels[level], reads))
        else:
            given.append(node("up", "fuse_finer", p.levels[level], (current[level], given[-1])))
    return found, given


def _repeated(
    repeat: int, op: str, reduction: int, activation: Activation, resolution: int, width: int, depth: int
) -> BlockSpec | None:
    size = resolution // reduction
    return None if repeat > depth else BlockSpec(op, width, size, size, width, kernel=3, activation=activation)


# --- towers ---------------------------------------------------------------------------------------------------


def _tower(p: Preset, kind: str, channels: int, current: list[str]) -> list[Slot]:
    """Layers on each level with convolutions that all levels share and norms of their own, and what they say."""
    found: list[Slot] = []
    for layer, (reduction, start) in itertools.product(
        range(1, max(p.tower_depths) + 1), zip(p.levels, current, strict=True)
    ):
        build = partial(_repeated, layer, "separable_conv", reduction, p.activation)
        label = f"{kind}.layer{layer}.p{reduction}"
        before = start if layer == 1 else f"{kind}.layer{layer - 1}.p{reduction}"
        shares = f"{kind}.layer{layer}.p{p.levels[0]}"
        found.append(Slot(label, ("resolution", WIDTH, TOWERS), build, always(before), shares=shares))
    for reduction in p.levels:
        before = f"{kind}.layer{max(p.tower_depths)}.p{reduction}"
        label = f"{kind}.p{reduction}"
        found.append(
            Slot(
                label,
                ("resolution", WIDTH),
                partial(_predict, reduction, channels),
                always(before),
                output=label,
                shares=f"{kind}.p{p.levels[0]}",
            )
        )
    return found


def _predict(reduction: int, channels: int, resolution: int, width: int) -> BlockSpec:
    size = resolution // reduction
    return BlockSpec("predict", width, size, size, channels, kernel=3, activation="none")
