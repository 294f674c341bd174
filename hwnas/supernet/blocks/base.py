"""What a block is, plain and elastic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from hwnas.spaces import BlockSpec


class ElasticBlock(nn.Module, ABC):
    """Weights for every block that may stand in one slot.

    Made for the specs of these blocks, which differ in more than their size in pixels.
    """

    @abstractmethod
    def forward(self, *inputs: Any, **spec: Any) -> Tensor:
        """What the block of ``spec``, given by that name, makes of its inputs, each [n, in, h, w]."""

    @abstractmethod
    def copy_to(self, block: Any) -> None:
        """Write the active part into a plain block."""

    def sort_channels(self) -> None:
        """Sort the channels inside by importance, so that narrow subnets keep the best; no output changes."""


class Weightless(ElasticBlock):
    """An operation without weights, so that the module of one block does for every width."""

    def __init__(self, plain: Callable[[BlockSpec], nn.Module], specs: Sequence[BlockSpec]) -> None:
        super().__init__()
        self.plain = plain(specs[0])

    def forward(self, *inputs: Tensor, spec: BlockSpec) -> Tensor:  # noqa: ARG002 -- the inputs say the width
        """Maps [n, c, h, w] to what the operation gives."""
        return cast(Tensor, self.plain(*inputs))

    def copy_to(self, block: Any) -> None:
        """Nothing is to be written."""


def compute(module: nn.Module, inputs: Sequence[Tensor], spec: BlockSpec) -> Tensor:
    """What a module, plain or elastic, makes of a block's inputs."""
    named = {"spec": spec} if isinstance(module, ElasticBlock) else {}
    return cast(Tensor, module(*inputs, **named))


def copy_weights(module: nn.Module, block: nn.Module) -> None:
    """Write the weights of a module, or the active part of an elastic one, into a plain block."""
    if isinstance(module, ElasticBlock):
        module.copy_to(block)
    else:
        block.load_state_dict(module.state_dict())


@dataclass(frozen=True, slots=True)
class Block:
    """The modules of an operation: of one block, and of all blocks that may stand in one slot."""

    plain: Callable[[BlockSpec], nn.Module]
    elastic: Callable[[Sequence[BlockSpec]], ElasticBlock]
