"""The modules of each operation; a new operation is a new file here and a line below."""

from hwnas.supernet.blocks.base import Block, ElasticBlock
from hwnas.supernet.blocks.bottleneck import Bottleneck, ElasticBottleneck
from hwnas.supernet.blocks.conv import ConvBlock, ElasticConv
from hwnas.supernet.blocks.fire import ElasticFire, Fire
from hwnas.supernet.blocks.head import ElasticHead, Head
from hwnas.supernet.blocks.max_pool import ElasticMaxPool, MaxPool
from hwnas.supernet.blocks.mbconv import ElasticMBConv, MBConv

BLOCKS: dict[str, Block] = {
    "mbconv": Block(MBConv, ElasticMBConv),
    "conv": Block(ConvBlock, ElasticConv),
    "head": Block(Head, ElasticHead),
    "bottleneck": Block(Bottleneck, ElasticBottleneck),
    "max_pool": Block(MaxPool, ElasticMaxPool),
    "fire": Block(Fire, ElasticFire),
}
"""By what ``BlockSpec.op`` says."""

__all__ = ["BLOCKS", "Block", "ElasticBlock"]
