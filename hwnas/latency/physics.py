"""What blocks make a device do, as features whose sums over a network explain its latency."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.latency.base import Floats
from hwnas.latency.blocks import work_of
from hwnas.spaces import BlockSpec, Genomes, Space

WORK_WIDTH = 0.3
"""Share of a latency by which the cost of one kind of work may differ from the roofline's, beforehand."""
KIND_WIDTH = 0.02
"""Share of a latency that the oddities of one group of kinds of block make up, beforehand."""
_HEAD = 6
"""Position in :func:`work_of` of what every network has exactly once: no other than the constant."""


@dataclass(frozen=True)
class BlockFeatures:
    """Features of each of ``space.distinct_blocks`` and of a network as such, in groups."""

    per_block: Floats
    """[blocks, features]."""
    per_network: Floats
    """What every network has once, [features]."""
    groups: npt.NDArray[np.intp]
    """Of each feature; group 0 holds kinds of work, all others tell kinds of block apart."""
    widths: Floats
    """Of each group, what share of a latency it may make up beforehand."""

    def sums(self, space: Space, genomes: Genomes) -> Floats:
        """Features of architectures, [n, features]."""
        return self.per_network + sum_over_blocks(space, genomes, self.per_block)


def sum_over_blocks(space: Space, genomes: Genomes, per_block: Floats) -> Floats:
    """Sums over the blocks of each architecture, [n, quantities], of quantities [blocks, quantities]."""
    # The last row is reached by the index -1 of an empty slot.
    padded = np.concatenate([per_block, np.zeros((1, per_block.shape[1]))])
    sums = np.zeros((len(genomes), per_block.shape[1]))
    for column in space.block_indices(genomes).T:
        sums += padded[column]
    return sums


def block_features(space: Space) -> BlockFeatures:
    """Work, and what tells blocks apart beyond it: their place, kernel, expansion and size in pixels.

    A runtime picks its kernels by these, so that blocks of the same work differ; what a kind of block costs more or
    less than its work either does not depend on the pixels (a launch) or grows with them, hence each group twice.
    """
    blocks = space.distinct_blocks
    places = [_place(block) for block in blocks]
    kernels = [(place, block.kernel, block.spatial_channels) for place, block in zip(places, blocks, strict=True)]
    widths = [(place, block.mid_channels) for place, block in zip(places, blocks, strict=True)]
    kinds = [(*kernel, block.mid_channels) for kernel, block in zip(kernels, blocks, strict=True)]
    sizes = [(place, block.in_height, block.in_width) for place, block in zip(places, blocks, strict=True)]
    pixels = _share_of_pixels(blocks, places)
    columns = [work(blocks)]
    for keys in (places, kernels, widths, kinds):
        columns += [_one_hot(keys), _one_hot(keys) * pixels[:, None]]
    columns.append(_one_hot(sizes))
    groups = np.repeat(np.arange(len(columns)), [group.shape[1] for group in columns])
    per_network = np.zeros(len(groups))
    per_network[work(blocks).shape[1] - 1] = 1.0
    prior = np.array([WORK_WIDTH] + [KIND_WIDTH] * (len(columns) - 1))
    return BlockFeatures(np.concatenate(columns, axis=1), per_network, groups, prior)


def work(blocks: Sequence[BlockSpec]) -> Floats:
    """Kinds of work of blocks, [blocks, kinds]; the last kind is 0, that of a network as such."""
    rows = [
        [
            *np.delete(work_of(block), _HEAD),
            block.launches,
            block.params / 1e5,
            block.skip,
            block.activation == "h_swish",
            0,
        ]
        for block in blocks
    ]
    return np.array(rows, np.float64)


def _place(block: BlockSpec) -> Hashable:
    return (block.op, block.in_channels, block.out_channels, block.stride, block.se, block.activation)


def _share_of_pixels(blocks: Sequence[BlockSpec], places: Sequence[Hashable]) -> Floats:
    """Of each block, its input's pixels over the most at its place, [blocks]."""
    most: dict[Hashable, int] = {}
    for block, place in zip(blocks, places, strict=True):
        most[place] = max(most.get(place, 0), block.in_height * block.in_width)
    return np.array(
        [block.in_height * block.in_width / most[place] for block, place in zip(blocks, places, strict=True)]
    )


def _one_hot(keys: Sequence[Hashable]) -> Floats:
    number: dict[Hashable, int] = {}
    columns = [number.setdefault(key, len(number)) for key in keys]
    encoded = np.zeros((len(keys), len(number)))
    encoded[np.arange(len(keys)), columns] = 1.0
    return encoded
