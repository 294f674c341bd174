"""The mean in each window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def average_pool(chain: Chain, spec: BlockSpec) -> None:
    """Of what lies in each window of ``kernel`` within the map; channels stay (``activation`` is ``none``)."""
    chain.average_pool("pool", spec.kernel, spec.stride, spec.kernel // 2)
