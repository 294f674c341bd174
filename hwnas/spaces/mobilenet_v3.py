"""The MobileNetV3 space of Once-for-All (Cai et al. 2020, Sec. 4.1), block for block."""

from __future__ import annotations

from hwnas.spaces.block import make_divisible
from hwnas.spaces.family import Family
from hwnas.spaces.inverted_residuals import Preset, Stage, choices, slots


def published_preset(width_multiplier: float) -> Preset:
    """The published once-for-all network at a width multiplier (1.0 or 1.2): MobileNetV3-Large's stages."""

    def scaled(width: int) -> int:
        return make_divisible(width * width_multiplier)

    return Preset(
        stem_width=scaled(16),
        stem_activation="h_swish",
        first_width=scaled(16),
        first_activation="relu",
        first_skip=True,
        stages=(
            Stage(scaled(24), stride=2, se=False, activation="relu"),
            Stage(scaled(40), stride=2, se=True, activation="relu"),
            Stage(scaled(80), stride=2, se=False, activation="h_swish"),
            Stage(scaled(112), stride=1, se=True, activation="h_swish"),
            Stage(scaled(160), stride=2, se=True, activation="h_swish"),
        ),
        final_width=scaled(960),
        final_activation="h_swish",
        feature_width=scaled(1280),
        resolutions=tuple(range(128, 225, 4)),
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
        stem_activation="h_swish",
        first_width=16,
        first_activation="relu",
        first_skip=True,
        stages=(
            Stage(16, stride=2, se=False, activation="relu"),
            Stage(32, stride=2, se=True, activation="h_swish"),
            Stage(64, stride=2, se=True, activation="h_swish"),
        ),
        final_width=192,
        final_activation="h_swish",
        feature_width=256,
        resolutions=tuple(range(24, 65, 4)),
        kernels=(3, 5, 7),
        expansions=(2, 3, 4),
        num_classes=10,
    ),
}

FAMILY = Family("mobilenet_v3", PRESETS, choices, slots)
