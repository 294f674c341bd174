"""What a network is made of, in the quantities that its latency is regressed on.

A block's isolated time misleads in ways that depend on what the block is: alone it converts its input and output,
starts a run of its own, keeps its weights in the nearest cache and cannot be fused with its neighbours.  Each way is a
quantity per block; networks are sums of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hwnas.latency.base import Floats
from hwnas.spaces import BlockSpec, Genomes, Space

CORRECTIONS: dict[str, Callable[[BlockSpec], float]] = {
    # Starting a run, and handing over its input and output, are in every isolated time.
    "starts": lambda _: 1.0,
    # A block alone converts its input and output between the model's layout and the runtime's; a network does not.
    "border": lambda block: float(
        block.in_channels * block.in_height * block.in_width + block.out_channels * block.out_height * block.out_width
    ),
    # A block alone keeps its weights in the nearest cache; in a network they displace each other.
    "weights": lambda block: float(block.params),
}
"""Quantities of a block that add to its time in a network, whatever its time alone."""
SUM_SHARE = 0.25
"""How much the sum of isolated times may be wrong as a whole, as a prior standard deviation."""
CORRECTION_SHARE = 0.15
"""How much of a typical latency each correction may make up, as a prior standard deviation."""
GROUP_SHARE = 0.05
"""How much blocks of a kind may differ from the others in what their isolated time is worth, likewise."""


def kinds(block: BlockSpec) -> tuple[str, ...]:
    """The groups whose blocks are slower or faster in a network, alike, than their isolated times say."""
    named = [f"{block.op} to {block.out_channels}", f"kernel {block.kernel}", f"stride {block.stride}"]
    named += ["squeeze-excite"] if block.se else []
    if block.mid_channels >= block.in_channels and not block.classifies:
        named.append(f"expansion {round(block.mid_channels / block.in_channels)}")
    elif block.mid_channels and not block.classifies:
        named.append(f"reduction {round(block.in_channels / block.mid_channels)}")
    return tuple(named)


@dataclass(frozen=True)
class Context:
    """The quantities of a space's blocks, and the prior of what each is worth.

    Features of a network: 1; its plain sum of isolated times; the plain sum by the logarithm of the resolution; and
    sums over its blocks of :data:`CORRECTIONS` and of the times by :func:`kinds`.
    """

    space: Space
    per_block: Floats
    """[blocks, quantities]: the isolated time in ms first, then corrections and groups."""
    prior_std: Floats
    """[2 + quantities], in the order of the features."""
    octaves: Floats
    """Of each resolution of the space above or below the middle one, [resolutions]."""

    @classmethod
    def of(cls, space: Space, ms: Floats) -> Context:
        """The context of blocks that take ``ms`` [blocks] alone."""
        blocks = space.distinct_blocks
        corrections = [np.array([quantity(block) for block in blocks]) for quantity in CORRECTIONS.values()]
        labels = sorted({label for block in blocks for label in kinds(block)})
        groups = [ms * np.array([label in kinds(block) for block in blocks]) for label in labels]
        resolutions = np.array(space.resolutions, np.float64)
        octaves = np.log2(resolutions / np.median(resolutions))
        plain = cls(space, np.stack([ms, *corrections, *groups], axis=1), np.ones(0), octaves)
        # Typical sizes are those of random architectures, so that they exist before any network is measured.
        sums = plain.features(space.sample(np.random.default_rng(0), 1000))
        typical = np.abs(sums / sums[:, 1:2]).mean(axis=0)
        share = np.full(sums.shape[1], GROUP_SHARE)
        share[[0, *range(3, 3 + len(CORRECTIONS))]] = CORRECTION_SHARE
        share[1] = SUM_SHARE
        worth = share / np.maximum(np.where(share == GROUP_SHARE, 1.0, typical), 1e-12)
        return cls(space, plain.per_block, worth, octaves)

    def features(self, genomes: Genomes) -> Floats:
        """[n, 2 + quantities], in ms where a quantity is a time."""
        sums = lookup_sums(self.space, genomes, self.per_block)
        return np.concatenate([np.ones((len(genomes), 1)), sums[:, :1], self.tilt(genomes, sums), sums[:, 1:]], axis=1)

    def tilt(self, genomes: Genomes, sums: Floats) -> Floats:
        """The plain sum by octaves of resolution, [n, 1]."""
        return np.asarray(sums[:, :1] * self.octaves[genomes[:, self.space.position("resolution")]][:, None])


def lookup_sums(space: Space, genomes: Genomes, per_block: Floats) -> Floats:
    """Sums over the blocks of each architecture of quantities [blocks, k], [n, k]."""
    # The last row is reached by the index -1 of an empty slot.
    padded = np.concatenate([per_block, np.zeros((1, per_block.shape[1]))])
    sums = np.zeros((len(genomes), per_block.shape[1]))
    for column in space.block_indices(genomes).T:
        sums += padded[column]
    return sums
