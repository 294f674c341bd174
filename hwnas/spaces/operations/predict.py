"""What a detector says of each place of a feature map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def predict(chain: Chain, spec: BlockSpec) -> None:
    """Depthwise ``kernel`` and 1×1 convolution with a bias (``activation`` is ``none``)."""
    chain.conv("depthwise", spec.in_channels, spec.kernel, groups=spec.in_channels, bias=False)
    chain.conv("mix", spec.out_channels)
