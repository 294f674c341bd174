"""The supernet of a space, whatever its family."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn

from hwnas.spaces import Architecture, BlockSpec, Slot, Space
from hwnas.supernet.blocks import BLOCKS, ElasticBlock
from hwnas.supernet.plain import PlainNetwork, initialise


class ElasticNetwork(nn.Module):
    """Weights for every subnet of a space (Cai et al. 2020).

    A slot whose blocks differ in their size in pixels alone has a plain block, which all subnets share: elastic
    resolution needs no weights.  Any other has an elastic one.  Elastic depth skips the last blocks of a stage.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.blocks = nn.ModuleDict({slot.label.replace(".", "_"): self._shared(slot) for slot in space.slots})
        initialise(self, space.norm_eps)

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor:
        """Images [n, 3, r, r], r the architecture's resolution, to logits [n, classes]."""
        for block, spec in zip(self.blocks.values(), self._slot_specs(architecture), strict=True):
            if spec is None:
                continue
            x = block(x, spec) if isinstance(block, ElasticBlock) else block(x)
        return x

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> PlainNetwork:
        """A plain network with its own copy of the weights, in this network's mode and memory format.

        Its output equals that of this network with the architecture active.
        """
        network = PlainNetwork.of(self.space, architecture)
        active = zip(self.blocks.values(), self._slot_specs(architecture), strict=True)
        sources = [block for block, spec in active if spec is not None]
        for source, target in zip(sources, network, strict=True):
            if isinstance(source, ElasticBlock):
                source.copy_to(target)
            else:
                target.load_state_dict(source.state_dict())
        return network.train(self.training)

    def sort_channels(self) -> None:
        """Sort the channels inside every elastic block by importance; no output changes."""
        for block in self.blocks.values():
            if isinstance(block, ElasticBlock):
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

    def _shared(self, slot: Slot) -> nn.Module:
        """The module of a slot, for all blocks that may stand there."""
        values = (self.space.choices[self.space.position(label)].values for label in slot.choices)
        built = itertools.starmap(slot.build, itertools.product(*values))
        specs = list(dict.fromkeys(replace(spec, in_height=1, in_width=1) for spec in built if spec is not None))
        (op,) = {spec.op for spec in specs}
        if len(specs) == 1:
            return BLOCKS[op].plain(specs[0])
        return BLOCKS[op].elastic(specs)
