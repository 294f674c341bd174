"""The pool behind the stem of a ResNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec


def max_pool(chain: Chain, spec: BlockSpec) -> None:
    """The greatest value in each window of ``kernel``; channels stay (``activation`` is ``none``)."""
    chain.max_pool("pool", spec.kernel, spec.stride)
