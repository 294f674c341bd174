"""``add``: the sum of two feature maps."""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.layers import activate


class Add(nn.Module):
    """``BlockSpec`` of op ``add``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Twice [n, c, h, w] to the same shape."""
        return activate(x + y, self.spec.activation)
