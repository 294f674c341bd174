"""The supernet of a space, whatever its family."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.spaces import Architecture, Network, Slot, Space
from hwnas.supernet.blocks import ElasticBlock, compute, copy_weights, shared_block
from hwnas.supernet.plain import PlainNetwork, initialise, outputs_of


class ElasticNetwork(nn.Module):
    """Weights for every subnet of a space (Cai et al. 2020).

    A slot whose blocks differ in their size in pixels alone has a plain block, which all subnets share: elastic
    resolution needs no weights.  Any other has an elastic one; blocks of several operations have a module for each.
    Elastic depth skips the last blocks of a stage.

    Attributes:
        recalibration: how images are changed on which its subnets are recalibrated
            (:func:`hwnas.data.recalibration.recalibration_pixels`); None: not at all.
    """

    recalibration: Mapping[str, Any] | None = None

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.blocks = nn.ModuleDict({_name(slot.label): self._shared(slot) for slot in space.slots})
        for slot in space.slots:
            if slot.shares is not None:
                share_convolutions(self.blocks[_name(slot.shares)], self.blocks[_name(slot.label)])
        initialise(self, space.norm_eps)

    def forward(self, x: Tensor, architecture: Architecture) -> Tensor | tuple[Tensor, ...]:
        """Images [n, 3, r, r], r the architecture's resolution, to logits [n, classes], or a tuple of several outputs.

        What is computed is :meth:`hwnas.spaces.Space.network` of the architecture.
        """
        network, modules = self.active(architecture)
        return outputs_of(network.run([x], lambda k, inputs: compute(modules[k], inputs, network.blocks[k])))

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> PlainNetwork:
        """A plain network with its own copy of the weights, in this network's mode and memory format.

        Its output equals that of this network with the architecture active.
        """
        network, sources = self.active(architecture)
        plain = PlainNetwork(network, self.space.norm_eps)
        for source, target in zip(sources, plain, strict=True):
            copy_weights(source, target)
        return plain.train(self.training)

    def active(self, architecture: Architecture) -> tuple[Network, list[nn.Module]]:
        """The network of an architecture, and the module of each of its blocks."""
        if self._cached is None or self._cached[0] is not architecture:
            specs = self.space.slot_blocks(architecture)
            modules = [module for module, spec in zip(self.blocks.values(), specs, strict=True) if spec is not None]
            self._cached = (architecture, (self.space.connected(architecture, specs), modules))
        return self._cached[1]

    @torch.no_grad()
    def adopt(self, network: PlainNetwork) -> None:
        """Take over a plain network's weights; the space has its blocks and no others."""
        for own, given in zip(self.blocks.values(), network, strict=True):
            own.load_state_dict(given.state_dict())

    def sort_channels(self) -> None:
        """Sort the channels inside every elastic block by importance; no output changes."""
        for block in self.blocks.values():
            if isinstance(block, ElasticBlock):
                block.sort_channels()

    _cached: tuple[Architecture, tuple[Network, list[nn.Module]]] | None = None

    def _shared(self, slot: Slot) -> nn.Module:
        """The module of a slot, for all blocks that may stand there."""
        values = (self.space.choices[self.space.position(label)].values for label in slot.choices)
        built = itertools.starmap(slot.build, itertools.product(*values))
        specs = list(dict.fromkeys(replace(spec, in_height=1, in_width=1) for spec in built if spec is not None))
        return shared_block(specs)


def share_convolutions(giving: nn.Module, taking: nn.Module) -> None:
    """Let the convolutions of two equal modules have the same weights; norms remain each module's own."""
    given = dict(giving.named_modules())
    for name, module in taking.named_modules():
        if isinstance(module, nn.Conv2d):
            other = given[name]
            module.weight, module.bias = other.weight, other.bias


def _name(label: str) -> str:
    """Of the module of a slot."""
    return label.replace(".", "_")
