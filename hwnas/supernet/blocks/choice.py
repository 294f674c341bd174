"""Weights for a slot in which blocks of several operations may stand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.base import ElasticBlock, compute, copy_weights


class ElasticChoice(ElasticBlock):
    """A module for each operation, and for each stride of it: what halves a map is another filter than what does not.

    Args:
        modules: plain or elastic, by :func:`kind`.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.modules_of = nn.ModuleDict(modules)

    def forward(self, *inputs: Tensor, spec: BlockSpec) -> Tensor:
        """What the operation of ``spec`` makes of its inputs."""
        return compute(self.modules_of[kind(spec)], inputs, spec)

    def copy_to(self, block: Any) -> None:
        """Write the active part into a plain block."""
        copy_weights(self.modules_of[kind(block.spec)], block)

    def sort_channels(self) -> None:
        """Sort the channels inside each operation."""
        for module in self.modules_of.values():
            if isinstance(module, ElasticBlock):
                module.sort_channels()


def kind(spec: BlockSpec) -> str:
    """The operation of a block and its stride."""
    return f"{spec.op}_s{spec.stride}"
