"""The modules of each operation; a new operation is a new file here and a line below."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from hwnas.spaces import BlockSpec
from hwnas.supernet.blocks.adapt import Adapt, ElasticAdapt
from hwnas.supernet.blocks.add import Add
from hwnas.supernet.blocks.average_pool import AveragePool
from hwnas.supernet.blocks.base import Block, ElasticBlock, Weightless, compute, copy_weights
from hwnas.supernet.blocks.bottleneck import Bottleneck, ElasticBottleneck
from hwnas.supernet.blocks.choice import ElasticChoice, kind
from hwnas.supernet.blocks.concat import Concat
from hwnas.supernet.blocks.conv import ConvBlock, ElasticConv
from hwnas.supernet.blocks.fire import ElasticFire, Fire
from hwnas.supernet.blocks.fuse import ElasticFuse, Fuse
from hwnas.supernet.blocks.head import ElasticHead, Head
from hwnas.supernet.blocks.max_pool import MaxPool
from hwnas.supernet.blocks.mbconv import ElasticMBConv, MBConv
from hwnas.supernet.blocks.predict import ElasticPredict, Predict
from hwnas.supernet.blocks.separable import ElasticSeparable, ElasticSeparableConv, Separable, SeparableConv

BLOCKS: dict[str, Block] = {
    "mbconv": Block(MBConv, ElasticMBConv),
    "conv": Block(ConvBlock, ElasticConv),
    "head": Block(Head, ElasticHead),
    "bottleneck": Block(Bottleneck, ElasticBottleneck),
    "max_pool": Block(MaxPool, partial(Weightless, MaxPool)),
    "fire": Block(Fire, ElasticFire),
    "add": Block(Add, partial(Weightless, Add)),
    "concat": Block(Concat, partial(Weightless, Concat)),
    "adapt": Block(Adapt, ElasticAdapt),
    "average_pool": Block(AveragePool, partial(Weightless, AveragePool)),
    "separable": Block(Separable, ElasticSeparable),
    "fuse_coarser": Block(Fuse, ElasticFuse),
    "fuse_finer": Block(Fuse, ElasticFuse),
    "fuse_finer_twice": Block(Fuse, ElasticFuse),
    "separable_conv": Block(SeparableConv, ElasticSeparableConv),
    "predict": Block(Predict, ElasticPredict),
}
"""By what ``BlockSpec.op`` says."""


def shared_block(specs: Sequence[BlockSpec]) -> nn.Module:
    """The weights of all blocks that may stand in one slot, which differ in more than their size in pixels."""
    kinds = dict.fromkeys(map(kind, specs))
    if len(kinds) > 1:
        return ElasticChoice({each: shared_block([spec for spec in specs if kind(spec) == each]) for each in kinds})
    if len(specs) == 1:
        return BLOCKS[specs[0].op].plain(specs[0])
    return BLOCKS[specs[0].op].elastic(specs)


__all__ = ["BLOCKS", "Block", "ElasticBlock", "compute", "copy_weights", "shared_block"]
