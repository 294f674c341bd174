"""``max_pool``: the greatest value in each window."""

from __future__ import annotations

from torch import nn

from hwnas.spaces import BlockSpec


class MaxPool(nn.MaxPool2d):
    """``BlockSpec`` of op ``max_pool``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec.kernel, spec.stride, spec.kernel // 2)
        self.spec = spec
