"""What a block is, plain and elastic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hwnas.spaces import BlockSpec


class ElasticBlock(nn.Module, ABC):
    """Weights for every block that may stand in one slot.

    Made for the specs of these blocks, which differ in more than their size in pixels.
    """

    @abstractmethod
    def forward(self, x: Tensor, spec: BlockSpec) -> Tensor:
        """What the block of ``spec`` makes of its input [n, in, h, w]."""

    @abstractmethod
    def copy_to(self, block: Any) -> None:
        """Write the active part into a plain block."""

    def sort_channels(self) -> None:
        """Sort the channels inside by importance, so that narrow subnets keep the best; no output changes."""


@dataclass(frozen=True, slots=True)
class Block:
    """The modules of an operation: of one block, and of all blocks that may stand in one slot."""

    plain: Callable[[BlockSpec], nn.Module]
    elastic: Callable[[Sequence[BlockSpec]], ElasticBlock]
