"""``average_pool``: the mean in each window."""

from __future__ import annotations

from torch import nn

from hwnas.spaces import BlockSpec


class AveragePool(nn.AvgPool2d):
    """``BlockSpec`` of op ``average_pool``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__(spec.kernel, spec.stride, spec.kernel // 2, count_include_pad=False)
        self.spec = spec
