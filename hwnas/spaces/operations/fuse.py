"""The weighted sums of a BiFPN (Tan et al. 2020, "EfficientDet", Sec. 3.3 "Fast normalized fusion")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hwnas.spaces.nodes import Chain, Shape

if TYPE_CHECKING:
    from hwnas.spaces.block import BlockSpec

HALVING = (3, 2)
"""Kernel and stride of the max pool from a finer level."""


def fuse_coarser(chain: Chain, spec: BlockSpec) -> None:
    """The level's map and that of the next coarser level, each pixel four times; ``activation`` follows."""
    _fuse(chain, spec, lambda name: chain.upsample(name, 2))


def fuse_finer(chain: Chain, spec: BlockSpec) -> None:
    """One or two maps of the level and that of the next finer level, max pooled; ``activation`` follows."""
    _fuse(chain, spec, lambda name: chain.max_pool(name, *HALVING))


def _fuse(chain: Chain, spec: BlockSpec, resample: Callable[[str], None]) -> None:
    """Scale each input, resample the last one, add them up from the first on."""
    *own, other = chain.inputs
    total = _scaled(chain, 0, own[0])
    for number, given in enumerate(own[1:], start=1):
        chain.append(f"sum{number}", "Add", chain.shape, inputs=[total, _scaled(chain, number, given)])
        total = chain.tensor
    chain.tensor, chain.shape = other
    _scaled(chain, len(own), other)
    resample("resample")
    chain.append(f"sum{len(own)}", "Add", chain.shape, inputs=[total, chain.tensor])
    chain.activate("activation", spec.activation)


def _scaled(chain: Chain, number: int, given: tuple[str, Shape]) -> str:
    tensor, shape = given
    chain.append(f"scale{number}", "Mul", shape, inputs=[tensor], parameters={"scale": []})
    return chain.tensor


def with_coarser(spec: BlockSpec) -> list[Shape]:
    """A map of the size that the block states, and one of half the height and width."""
    return [_map(spec), [spec.in_channels, spec.in_height // 2, spec.in_width // 2]]


def with_finer(spec: BlockSpec) -> list[Shape]:
    """A map of the size that the block states, and one of twice the height and width."""
    return [_map(spec), [spec.in_channels, spec.in_height * 2, spec.in_width * 2]]


def twice_with_finer(spec: BlockSpec) -> list[Shape]:
    """Two maps of the size that the block states, and one of twice the height and width."""
    return [_map(spec), *with_finer(spec)]


def _map(spec: BlockSpec) -> Shape:
    return [spec.in_channels, spec.in_height, spec.in_width]
