"""The networks that everybody knows, for any input and at any width: what a search's result is held against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from hwnas.spaces.block import Activation, BlockSpec, make_divisible

PUBLISHED_STRIDES = 5
"""Halvings of the input's side, in those that have most."""

Blocks = list[BlockSpec]


def mobilenet_v3_small(
    resolution: int, num_classes: int, width: float = 1.0, strides: int = PUBLISHED_STRIDES
) -> Blocks:
    """MobileNetV3-Small (Howard et al. 2019, Table 2).

    As in torchvision, squeeze-and-excite has a quarter of the expanded channels, rounded to a multiple of 8.

    Args:
        resolution: side of the input in pixels.
        width: factor on all channels, which are rounded to multiples of 8.
        strides: of the published strides of 2 the first so many are kept, for small inputs; the others become 1.
    """
    rows: list[tuple[int, int, int, bool, bool, int]] = [
        # kernel, expanded, out, SE, h-swish, stride
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    ]
    chain = _Chain(resolution, width, strides)
    chain.conv(16, 3, 2, "h_swish")
    for kernel, mid, out, se, h_swish, stride in rows:
        chain.mbconv(kernel, chain.scaled(mid), out, stride, "h_swish" if h_swish else "relu", se=se)
    chain.conv(576, 1, 1, "h_swish")
    return chain.classified(num_classes, chain.scaled(1024), "h_swish")


def mobilenet_v2(resolution: int, num_classes: int, width: float = 1.0, strides: int = PUBLISHED_STRIDES) -> Blocks:
    """MobileNetV2 (Sandler et al. 2018, Table 2); arguments as of :func:`mobilenet_v3_small`.

    As there (Sec. 6.1), a width below 1 leaves the last convolution as it is.
    """
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    chain = _Chain(resolution, width, strides)
    chain.conv(32, 3, 2, "relu6")
    for expansion, out, repeats, stride in rows:
        chain.inverted_residuals(3, expansion, out, repeats, stride)
    chain.width = max(1.0, width)
    chain.conv(1280, 1, 1, "relu6")
    return chain.classified(num_classes)


def efficientnet_lite(
    resolution: int, num_classes: int, width: float = 1.0, strides: int = PUBLISHED_STRIDES
) -> Blocks:
    """EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019, Table 1) with ReLU6 and without squeeze-and-excite.

    Arguments as of :func:`mobilenet_v3_small`; all layers are scaled.
    """
    rows = [
        # kernel, expansion, out, repeats, stride
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (5, 6, 40, 2, 2),
        (3, 6, 80, 3, 2),
        (5, 6, 112, 3, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ]
    chain = _Chain(resolution, width, strides)
    chain.conv(32, 3, 2, "relu6")
    for row in rows:
        chain.inverted_residuals(*row)
    chain.conv(1280, 1, 1, "relu6")
    return chain.classified(num_classes)


def squeezenet(resolution: int, num_classes: int, width: float = 1.0, strides: int = PUBLISHED_STRIDES) -> Blocks:
    """SqueezeNet 1.1 (Iandola et al. 2016) as :mod:`hwnas.spaces.fire` has it: with batch norms, padded, pool first.

    Arguments as of :func:`mobilenet_v3_small`; it halves four times.
    """
    chain = _Chain(resolution, width, strides)
    chain.conv(64, 3, 2, "relu")
    for squeeze, expand, pools in ((16, 64, True), (32, 128, True), (48, 192, True), (64, 256, False)):
        if pools:
            chain.max_pool()
        for _ in range(2):
            chain.fire(squeeze, expand)
    return chain.classified(num_classes)


YARDSTICKS: dict[str, Callable[[int, int, float, int], Blocks]] = {
    "MobileNetV2": mobilenet_v2,
    "MobileNetV3-Small": mobilenet_v3_small,
    "SqueezeNet": squeezenet,
    "EfficientNet-Lite": efficientnet_lite,
}
"""By name; each takes resolution, number of classes, width and strides."""


def widths(
    build: Callable[[float], Blocks], low: float = 0.05, high: float = 2.0, steps: int = 391
) -> Iterator[tuple[float, Blocks]]:
    """The different networks of an evenly spaced grid of widths, ascending, each with its least width."""
    grid = ((low + (high - low) * number / (steps - 1)) for number in range(steps))
    for _, same in itertools.groupby(((width, build(width)) for width in grid), key=lambda found: found[1]):
        yield next(same)


class _Chain:
    """Blocks under construction."""

    def __init__(self, resolution: int, width: float, strides: int) -> None:
        self.width = width
        self._strides = strides
        self._blocks: Blocks = []
        self._shape = (3, resolution, resolution)

    def scaled(self, channels: int) -> int:
        return make_divisible(channels * self.width)

    def conv(self, out: int, kernel: int, stride: int, activation: Activation) -> None:
        self._add(BlockSpec("conv", *self._shape, self.scaled(out), 0, kernel, self._kept(stride), False, activation))

    def mbconv(self, kernel: int, mid: int, out: int, stride: int, activation: Activation, *, se: bool = False) -> None:
        stride, scaled = self._kept(stride), self.scaled(out)
        skip = stride == 1 and self._shape[0] == scaled
        self._add(BlockSpec("mbconv", *self._shape, scaled, mid, kernel, stride, se, activation, skip))

    def inverted_residuals(self, kernel: int, expansion: int, out: int, repeats: int, stride: int) -> None:
        for repeat in range(repeats):
            self.mbconv(kernel, expansion * self._shape[0], out, 1 if repeat else stride, "relu6")

    def max_pool(self) -> None:
        """Of 3×3 pixels, by a stride of 2; none where that is not kept."""
        if self._kept(2) == 2:
            self._add(BlockSpec("max_pool", *self._shape, self._shape[0], kernel=3, stride=2, activation="none"))

    def fire(self, squeeze: int, expand: int) -> None:
        """``expand`` channels each of 1×1 and of 3×3 filters."""
        spatial = self.scaled(expand)
        mid = self.scaled(squeeze)
        self._add(BlockSpec("fire", *self._shape, 2 * spatial, mid, kernel=3, spatial_channels=spatial))

    def classified(self, num_classes: int, mid: int = 0, activation: Activation = "none") -> Blocks:
        return [*self._blocks, BlockSpec("head", *self._shape, num_classes, mid, activation=activation)]

    def _kept(self, stride: int) -> int:
        if stride == 1:
            return 1
        self._strides -= 1
        return 2 if self._strides >= 0 else 1

    def _add(self, spec: BlockSpec) -> None:
        self._blocks.append(spec)
        self._shape = (spec.out_channels, spec.out_height, spec.out_width)
