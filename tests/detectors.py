"""A space of detectors like any other, but quick."""

from __future__ import annotations

from hwnas.spaces import Space
from hwnas.spaces.bifpn import Preset, choices, slots
from hwnas.spaces.family import Family
from hwnas.spaces.inverted_residuals import Preset as Backbone
from hwnas.spaces.inverted_residuals import Stage
from hwnas.spaces.inverted_residuals import choices as backbone_choices
from hwnas.spaces.inverted_residuals import slots as backbone_slots

THIN = Backbone(
    stem_width=8,
    stem_activation="h_swish",
    first_width=8,
    first_activation="relu",
    first_skip=True,
    stages=(
        Stage(8, stride=2, se=False, activation="relu", depths=(1, 2)),
        Stage(16, stride=2, se=True, activation="h_swish", depths=(1, 2)),
    ),
    final_width=32,
    final_activation="h_swish",
    feature_width=32,
    resolutions=(16, 24),
    kernels=(3, 5),
    expansions=(2, 3),
    num_classes=2,
)
FAMILY = Family("thin", {"thin": THIN}, backbone_choices, backbone_slots)
PRESET = Preset(FAMILY, "thin", "h_swish", (4, 8, 16), (32, 48), (8, 16), (1, 2), (1, 2))


def thin_detectors(num_classes: int = 2) -> Space:
    return Space(
        "thin-bifpn", "thin", num_classes, choices(PRESET), slots(PRESET, num_classes), norm_eps=1e-3, task="detection"
    )
