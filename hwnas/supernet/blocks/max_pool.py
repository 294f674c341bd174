"""``max_pool``: no weights, so that one module does for every width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock


class MaxPool(nn.MaxPool2d):
    """``BlockSpec`` of op ``max_pool``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec.kernel, spec.stride, spec.kernel // 2)
        self.spec = spec


class ElasticMaxPool(ElasticBlock):
    """A ``max_pool`` of any width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        self.pool = MaxPool(specs[0])

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:  # noqa: ARG002 -- the input says the width
        """[n, c, h, w] to [n, c, h', w']."""
        return cast(Tensor, self.pool(x))

    def copy_to(self, block: MaxPool) -> None:
        """Nothing is to be written."""
