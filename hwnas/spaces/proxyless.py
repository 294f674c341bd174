"""The ProxylessNAS space of Once-for-All: inverted residuals of MobileNetV2 with ReLU6, without squeeze-and-excite.

Stage widths and strides are those of ProxylessNAS (Cai et al. 2019, Fig. 4) as the published once-for-all network
``ofa_proxyless_d234_e346_k357_w1.3`` has them (``OFAProxylessNASNets`` of the package ``ofa``): the first block has
no skip connection, the last stage is one block, the classifier follows the pool, and batch norms add 1e-3 to variances.
"""

from __future__ import annotations

from hwnas.spaces.block import make_divisible
from hwnas.spaces.family import Family
from hwnas.spaces.inverted_residuals import Preset, Stage, choices, slots
from hwnas.spaces.padding import Padding


def _stage(width: int, stride: int, *depths: int) -> Stage:
    return Stage(width, stride, se=False, activation="relu6", depths=depths)


def _stages(*rows: tuple[int, int]) -> tuple[Stage, ...]:
    """Stages of (width, stride), the last of which is a single block."""
    *elastic, last = rows
    return (*(_stage(*row, 2, 3, 4) for row in elastic), _stage(*last, 1))


def _preset(
    stem_width: int,
    first_width: int,
    stages: tuple[Stage, ...],
    final_width: int,
    *,
    resolutions: tuple[int, ...],
    expansions: tuple[int, ...],
    num_classes: int,
    kernels: tuple[int, ...] = (3, 5, 7),
    padding: Padding = "symmetric",
) -> Preset:
    return Preset(
        stem_width=stem_width,
        stem_activation="relu6",
        first_width=first_width,
        first_activation="relu6",
        first_skip=False,
        stages=stages,
        final_width=final_width,
        final_activation="relu6",
        feature_width=0,
        resolutions=resolutions,
        kernels=kernels,
        expansions=expansions,
        num_classes=num_classes,
        padding=padding,
    )


def published_preset(width_multiplier: float) -> Preset:
    """The published once-for-all network at a width multiplier (1.3)."""

    def scaled(width: int) -> int:
        return make_divisible(width * width_multiplier)

    return _preset(
        scaled(32),
        scaled(16),
        _stages((scaled(24), 2), (scaled(40), 2), (scaled(80), 2), (scaled(96), 1), (scaled(192), 2), (scaled(320), 1)),
        scaled(1280),
        resolutions=tuple(range(128, 225, 4)),
        expansions=(3, 4, 6),
        num_classes=1000,
    )


PRESETS: dict[str, Preset] = {
    "imagenet-w1.3": published_preset(1.3),
    # EfficientNet-Lite0 (Tan and Le 2019, Table 1, without squeeze-and-excite and with ReLU6) is the architecture with
    # 3×3 kernels in stages 1, 3 and 6 and all else at its largest; see :mod:`hwnas.supernet.importing`.
    "efficientnet-lite0": _preset(
        32,
        16,
        (
            _stage(24, 2, 1, 2),
            _stage(40, 2, 1, 2),
            _stage(80, 2, 1, 2, 3),
            _stage(112, 1, 1, 2, 3),
            _stage(192, 2, 2, 3, 4),
            _stage(320, 1, 1),
        ),
        1280,
        resolutions=tuple(range(96, 225, 32)),
        kernels=(3, 5),
        expansions=(3, 4, 6),
        num_classes=1000,
        padding="same_upper",
    ),
    # For 24-64 px: three strides after the stem's, thin enough to train on a CPU.
    "small": _preset(
        16,
        16,
        _stages((16, 2), (32, 2), (64, 2), (96, 1)),
        256,
        resolutions=tuple(range(24, 65, 4)),
        expansions=(2, 3, 4),
        num_classes=10,
    ),
}

FAMILY = Family("proxyless", PRESETS, choices, slots, norm_eps=1e-3)
