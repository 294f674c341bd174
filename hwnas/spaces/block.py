"""The unit of measurement: one block of a network, described without weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

from hwnas.spaces.counting import Counts, counts_of, peak_of
from hwnas.spaces.nodes import Chain, Node, Shape, graph_input
from hwnas.spaces.operations import OPERATIONS
from hwnas.spaces.padding import Padding

Activation = Literal["relu", "h_swish", "relu6", "none"]

CHANNEL_DIVISOR = 8
SE_REDUCTION = 4
_COUNTED = 1 << 17
"""Blocks whose counts are kept: a space has some thousands."""


def make_divisible(value: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """Round a channel count to a multiple of ``divisor``, never below 90 % of ``value`` (MobileNetV2, TF models)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block; what it computes is fixed by ``op``, of :data:`hwnas.spaces.operations.OPERATIONS`.

    Sizes are in pixels.  ``padding`` says more than ``symmetric`` only of a strided ``conv`` or ``mbconv``.
    """

    op: str
    in_channels: int
    in_height: int
    in_width: int
    out_channels: int
    mid_channels: int = 0
    kernel: int = 1
    stride: int = 1
    se: bool = False
    activation: Activation = "relu"
    skip: bool = False
    padding: Padding = "symmetric"
    spatial_channels: int = 0
    """Of a ``fire``'s output, those of its ``kernel`` filters; its 1×1 filters give the others."""

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS or self.activation not in get_args(Activation):
            raise ValueError(f"unknown operation or activation in {self}")
        if self.skip and (self.stride != 1 or self.in_channels != self.out_channels):
            raise ValueError(f"a block that changes its shape cannot have a skip connection: {self}")
        if self.padding != "symmetric" and (self.stride == 1 or self.op not in ("conv", "mbconv")):
            raise ValueError(f"there is no padding to choose in {self}")
        if self.op == "fire" and (self.stride != 1 or not 0 < self.spatial_channels < self.out_channels):
            raise ValueError(f"a fire has no stride, and filters of both sizes: {self}")
        if self.op != "fire" and self.spatial_channels:
            raise ValueError(f"only a fire has filters of two sizes: {self}")

    @property
    def classifies(self) -> bool:
        """Whether the block ends a network: it gives one value a class and no feature map."""
        return self.op == "head"

    @property
    def input_shapes(self) -> list[Shape]:
        """Of each tensor that the block takes, without the batch dimension."""
        return OPERATIONS[self.op].inputs(self)

    @property
    def output_shape(self) -> Shape:
        """Of what the block gives, without the batch dimension."""
        return list(_counts(self).output_shape)

    @property
    def out_height(self) -> int:
        """Height of the output in pixels (1 for a head)."""
        return (*self.output_shape, 1, 1)[1]

    @property
    def out_width(self) -> int:
        """Width of the output in pixels (1 for a head)."""
        return (*self.output_shape, 1, 1)[2]

    @property
    def expands(self) -> bool:
        """Whether an ``mbconv`` begins with a 1×1 expansion."""
        return self.op == "mbconv" and self.mid_channels != self.in_channels

    @property
    def se_channels(self) -> int:
        """Channels of the squeeze in squeeze-and-excite, 0 without it."""
        return make_divisible(self.mid_channels // SE_REDUCTION) if self.se else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the convolutions and linear layers for one image."""
        return _counts(self).macs

    @property
    def params(self) -> int:
        """Trainable parameters, those of batch norms included."""
        return _counts(self).params

    @property
    def weights(self) -> int:
        """Constants of the exported block, in which a batch norm is one bias a channel."""
        return _counts(self).weights

    @property
    def peak_activations(self) -> int:
        """Most activations alive at once, for one image: operations in order, activation functions in place.

        The input of an operation lives until its output is there, that of a block with a skip until the end.
        """
        return self.peak_with_kept(())

    def peak_with_kept(self, kept: tuple[int, ...]) -> int:
        """The same where those of its inputs with these numbers are still alive after the block."""
        return _peak(self, kept)

    @property
    def launches(self) -> int:
        """Operators that a runtime starts one by one, where it fuses none but the norm."""
        return _counts(self).launches

    @property
    def nodes(self) -> list[Node]:
        """What the block alone computes."""
        return _chain(self).nodes

    @property
    def key(self) -> str:
        """A short unique text, such as ``mbconv:16x11x11:m48:o16:k3:s1:h_swish:skip``."""
        parts = [self.op, f"{self.in_channels}x{self.in_height}x{self.in_width}"]
        parts += [f"m{self.mid_channels}", f"o{self.out_channels}", f"k{self.kernel}", f"s{self.stride}"]
        parts += [self.activation, *(["se"] if self.se else []), *(["skip"] if self.skip else [])]
        parts += [self.padding] if self.padding != "symmetric" else []
        return ":".join([*parts, *([f"spatial{self.spatial_channels}"] if self.spatial_channels else [])])

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)


def _chain(spec: BlockSpec) -> Chain:
    chain = Chain()
    chain.begin(0, [(graph_input(number), shape) for number, shape in enumerate(spec.input_shapes)])
    OPERATIONS[spec.op].append(chain, spec)
    return chain


@lru_cache(maxsize=_COUNTED)
def _counts(spec: BlockSpec) -> Counts:
    return counts_of(_chain(spec))


@lru_cache(maxsize=_COUNTED)
def _peak(spec: BlockSpec, kept: tuple[int, ...]) -> int:
    given = {graph_input(number): math.prod(shape) for number, shape in enumerate(spec.input_shapes)}
    return peak_of(spec.nodes, given, [graph_input(number) for number in kept])
