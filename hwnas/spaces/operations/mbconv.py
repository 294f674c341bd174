"""The inverted residual of MobileNetV2 and MobileNetV3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def mbconv(chain: Chain, spec: BlockSpec) -> None:
    """Howard et al. 2019, Fig. 4.

    1×1 expansion to ``mid_channels`` (absent where they equal ``in_channels``), depthwise ``kernel``, squeeze-and-
    excite on the depthwise output if ``se``, linear 1×1 projection, plus the input if ``skip``.
    """
    block_input = chain.tensor
    if spec.expands:
        chain.conv("expand.conv", spec.mid_channels)
        chain.activate("expand.activation", spec.activation)
    mid = spec.mid_channels
    chain.conv("depthwise.conv", mid, spec.kernel, spec.stride, groups=mid, padding=spec.padding)
    chain.activate("depthwise.activation", spec.activation)
    if spec.se:
        chain.squeeze_excite(spec.se_channels)
    chain.conv("project.conv", spec.out_channels)
    if spec.skip:
        chain.append("skip", "Add", chain.shape, inputs=[block_input, chain.tensor])
