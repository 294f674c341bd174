"""A space of detectors like any other, but quick."""

from __future__ import annotations

from dataclasses import replace

from hwnas.spaces import Space
from hwnas.spaces.bifpn import Preset, choices, slots
from hwnas.spaces.family import Family
from hwnas.spaces.inverted_residuals import choices as backbone_choices
from hwnas.spaces.inverted_residuals import slots as backbone_slots
from tests.training import toy

THIN = replace(
    toy.THIN,
    stages=tuple(replace(stage, depths=(1, 2)) for stage in toy.THIN.stages),
    resolutions=(16, 24),
    expansions=(2, 3),
    num_classes=2,
)
FAMILY = Family("thin", {"thin": THIN}, backbone_choices, backbone_slots)
PRESET = Preset(FAMILY, "thin", "h_swish", (4, 8, 16), (32, 48), (8, 16), (1, 2), (1, 2))


def thin_detectors(num_classes: int = 2) -> Space:
    return Space(
        "thin-bifpn", "thin", num_classes, choices(PRESET), slots(PRESET, num_classes), norm_eps=1e-3, task="detection"
    )
