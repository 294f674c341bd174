"""A space of one architecture: a network that is trained alone, or that is of no other space."""

from __future__ import annotations

import hashlib
from functools import partial

from hwnas.spaces.block import BlockSpec
from hwnas.spaces.network import Network
from hwnas.spaces.space import NORM_EPS, Choice, Slot, Space


def single_space(origin: str, network: Network, norm_eps: float = NORM_EPS) -> Space:
    """The space whose one architecture is a network.

    Its name is that of the space that the network comes from and a digest of it, so that what is known of one network
    is never taken for another's.

    Args:
        origin: name of that space, such as ``mobilenet_v3/small``.
        network: whose first block alone reads the images.
        norm_eps: see :class:`hwnas.spaces.Space`.
    """
    family, _, preset = origin.partition("/")
    described = "|".join(block.key for block in network.blocks) + repr((network.sources, network.outputs))
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    outputs = {number: name for name, number in network.outputs}
    slots = [
        Slot(
            _label(number),
            ("resolution",),
            partial(_fixed, block),
            partial(_read, sources) if number else None,
            outputs.get(number),
        )
        for number, (block, sources) in enumerate(zip(network.blocks, network.sources, strict=True))
    ]
    resolution = Choice("resolution", (network.blocks[0].in_height,))
    return Space(family, f"{preset}@{digest}", network.blocks[-1].out_channels, [resolution], slots, norm_eps)


def _label(number: int) -> str:
    return f"block{number}"


def _fixed(block: BlockSpec, _: int) -> BlockSpec:
    return block


def _read(sources: tuple[int, ...], _: object) -> list[str]:
    return [_label(source) for source in sources]
