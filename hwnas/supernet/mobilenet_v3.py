"""The supernet of the MobileNetV3 spaces."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from hwnas.spaces import Architecture, BlockSpec, Space
from hwnas.supernet.elastic import ElasticMBConv
from hwnas.supernet.plain import ConvBlock, Head, MBConv, PlainNetwork, initialise


class ElasticMobileNetV3(nn.Module):
    """Weights for every subnet of a MobileNetV3 space (Cai et al. 2020).

    Elastic resolution needs no weights; elastic depth skips the last blocks of a stage; elastic kernel and
    expansion are in :class:`~hwnas.supernet.elastic.ElasticMBConv`.  Stem, first block and head are shared.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        blocks: dict[str, nn.Module] = {}
        for slot, spec in zip(space.slots, self._slot_specs(space.largest), strict=True):
            assert spec is not None
            blocks[slot.label.replace(".", "_")] = self._shared_block(slot.label, spec)
        self.blocks = nn.ModuleDict(blocks)
        initialise(self)

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Images [n, 3, r, r], r the architecture's resolution, to logits [n, classes]."""
        for block, spec in zip(self.blocks.values(), self._slot_specs(architecture), strict=True):
            if spec is None:
                continue
            x = block(x, spec) if isinstance(block, ElasticMBConv) else block(x)
        return x

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> PlainNetwork:
        """A plain network with its own copy of the weights, in this network's mode and memory format.

        Its output equals that of this network with the architecture active.
        """
        network = PlainNetwork(self.space.blocks(architecture))
        active = zip(self.blocks.values(), self._slot_specs(architecture), strict=True)
        sources = [block for block, spec in active if spec is not None]
        for source, target in zip(sources, network, strict=True):
            if isinstance(source, ElasticMBConv):
                source.copy_to(cast(MBConv, target))
            else:
                target.load_state_dict(source.state_dict())
        return network.train(self.training)

    def sort_channels(self) -> None:
        """Sort the mid channels of every elastic block by importance; no output changes."""
        for block in self.blocks.values():
            if isinstance(block, ElasticMBConv):
                block.sort_channels()

    def _slot_specs(self, architecture: Architecture) -> list[BlockSpec | None]:
        """The block of each slot, None where it is empty."""
        space = self.space
        if self._cached_specs is None or self._cached_specs[0] is not architecture:
            indices = space.block_indices(space.encode([architecture]))[0]
            specs = [space.distinct_blocks[i] if i >= 0 else None for i in indices]
            self._cached_specs = (architecture, specs)
        return self._cached_specs[1]

    _cached_specs: tuple[Architecture, list[BlockSpec | None]] | None = None

    def _shared_block(self, label: str, largest: BlockSpec) -> nn.Module:
        if f"{label}.kernel" in (choice.label for choice in self.space.choices):
            kernels = self.space.choices[self.space.position(f"{label}.kernel")].values
            return ElasticMBConv(largest, kernels)
        return {"conv": ConvBlock, "mbconv": MBConv, "head": Head}[largest.op](largest)
