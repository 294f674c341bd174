"""From the last feature map to the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def head(chain: Chain, spec: BlockSpec) -> None:
    """Global average pool, 1×1 convolution to ``mid_channels`` without norm, activation, linear classifier.

    ``mid_channels`` 0: the classifier follows the pool.
    """
    chain.global_pool("pool")
    if spec.mid_channels:
        chain.conv("mix", spec.mid_channels, bias=False)
        chain.activate("activation", spec.activation)
    features = chain.shape[0]
    chain.append("flatten", "Flatten", [features], attributes={"axis": 1})
    chain.append(
        "classifier",
        "Gemm",
        [spec.out_channels],
        attributes={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1},
        parameters={"weight": [spec.out_channels, features], "bias": [spec.out_channels]},
    )
