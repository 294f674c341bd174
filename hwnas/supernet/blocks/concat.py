"""``concat``: feature maps, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.layers import activate


class Concat(nn.Module):
    """``BlockSpec`` of op ``concat``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, *inputs: Tensor) -> Tensor:
        """Maps [n, c, h, w] to [n, inputs·c, h, w]."""
        return activate(torch.cat(inputs, 1), self.spec.activation)
