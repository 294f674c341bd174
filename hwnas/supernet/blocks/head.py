"""``head``: features to logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock
from hwnas.supernet.layers import activate


class Head(nn.Module):
    """``BlockSpec`` of op ``head``."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        self.spec = spec
        mid = spec.mid_channels
        self.mix = nn.Conv2d(spec.in_channels, mid, 1, bias=False) if mid else None
        self.classifier = nn.Linear(mid or spec.in_channels, spec.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] to logits [n, classes]."""
        x = x.mean((2, 3), keepdim=True)
        if self.mix is not None:
            x = activate(self.mix(x), self.spec.activation)
        return cast(Tensor, self.classifier(x.flatten(1)))


class ElasticHead(ElasticBlock):
    """A ``head`` without ``mid_channels`` and of elastic input width."""

    def __init__(self, specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        assert not any(spec.mid_channels for spec in specs)
        self.classifier = nn.Linear(max(spec.in_channels for spec in specs), specs[0].out_channels)

    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:  # noqa: ARG002 -- the input says the width
        """[n, in, h, w] to logits [n, classes]."""
        return F.linear(x.mean((2, 3)), self.classifier.weight[:, : x.shape[1]], self.classifier.bias)

    @torch.no_grad()
    def copy_to(self, block: Head) -> None:
        """Write the active part into a plain block."""
        block.classifier.weight.copy_(self.classifier.weight[:, : block.spec.in_channels])
        block.classifier.bias.copy_(self.classifier.bias)
