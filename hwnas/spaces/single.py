"""A space of one architecture: a network that is trained alone, or that is of no other space."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial

from hwnas.spaces.block import BlockSpec
from hwnas.spaces.network import Network
from hwnas.spaces.space import NORM_EPS, Choice, Slot, Space, Task


def single_space(
    origin: str,
    network: Network,
    norm_eps: float = NORM_EPS,
    *,
    task: Task = "classification",
    num_classes: int | None = None,
    sharing: Mapping[int, int] | None = None,
) -> Space:
    """The space whose one architecture is a network.

    Its name is that of the space that the network comes from and a digest of it, so that what is known of one network
    is never taken for another's.

    Args:
        origin: name of that space, such as ``mobilenet_v3/small``.
        network: whose first block alone reads the images.
        norm_eps, task: see :class:`hwnas.spaces.Space`.
        num_classes: of a network whose last block does not tell.
        sharing: as of :meth:`hwnas.spaces.Space.sharing`.
    """
    family, _, preset = origin.partition("/")
    described = "|".join(block.key for block in network.blocks) + repr((network.sources, network.outputs))
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    outputs, shared = {number: name for name, number in network.outputs}, sharing or {}
    slots = [
        Slot(
            _label(number),
            ("resolution",),
            partial(_fixed, block),
            partial(_read, sources) if number else None,
            outputs.get(number),
            _label(shared[number]) if number in shared else None,
        )
        for number, (block, sources) in enumerate(zip(network.blocks, network.sources, strict=True))
    ]
    resolution = Choice("resolution", (network.blocks[0].in_height,))
    classes = num_classes or network.blocks[-1].out_channels
    return Space(family, f"{preset}@{digest}", classes, [resolution], slots, norm_eps, task)


def _label(number: int) -> str:
    return f"block{number}"


def _fixed(block: BlockSpec, _: int) -> BlockSpec:
    return block


def _read(sources: tuple[int, ...], _: object) -> list[str]:
    return [_label(source) for source in sources]
