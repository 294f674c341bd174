"""The unit of measurement: one block of a network, described without weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Op = Literal["conv", "mbconv", "head"]
Activation = Literal["relu", "h_swish"]

CHANNEL_DIVISOR = 8
SE_REDUCTION = 4


def make_divisible(value: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """Round a channel count to a multiple of ``divisor``, never below 90 % of ``value`` (MobileNetV2, TF models)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block; its operations are fixed by ``op``.

    * ``conv``: convolution, batch norm, activation (``mid_channels`` 0).
    * ``mbconv``: MobileNetV3's inverted residual (Howard et al. 2019, Fig. 4): 1×1 expansion to
      ``mid_channels`` (absent where they equal ``in_channels``), depthwise ``kernel``, squeeze-and-excite on
      the depthwise output if ``se``, linear 1×1 projection, plus the input if ``skip``.
    * ``head``: global average pool, 1×1 convolution to ``mid_channels`` without norm, activation, linear
      classifier to ``out_channels`` classes.

    Sizes are in pixels; padding is ``kernel // 2`` on each side.
    """

    op: Op
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

    def __post_init__(self) -> None:
        if self.op not in get_args(Op) or self.activation not in get_args(Activation):
            raise ValueError(f"unknown operation or activation in {self}")
        if self.skip and (self.stride != 1 or self.in_channels != self.out_channels):
            raise ValueError(f"a block that changes its shape cannot have a skip connection: {self}")

    @property
    def out_height(self) -> int:
        """Height of the output in pixels (1 for a head)."""
        return 1 if self.op == "head" else _out_size(self.in_height, self.kernel, self.stride)

    @property
    def out_width(self) -> int:
        """Width of the output in pixels (1 for a head)."""
        return 1 if self.op == "head" else _out_size(self.in_width, self.kernel, self.stride)

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
        pixels_in = self.in_height * self.in_width
        pixels_out = self.out_height * self.out_width
        if self.op == "conv":
            return pixels_out * self.in_channels * self.out_channels * self.kernel**2
        if self.op == "head":
            return self.mid_channels * (self.in_channels + self.out_channels)
        expansion = pixels_in * self.in_channels * self.mid_channels if self.expands else 0
        depthwise = pixels_out * self.mid_channels * self.kernel**2
        squeeze_excite = 2 * self.mid_channels * self.se_channels
        return expansion + depthwise + squeeze_excite + pixels_out * self.mid_channels * self.out_channels

    @property
    def params(self) -> int:
        """Trainable parameters, those of batch norms included."""
        if self.op == "conv":
            return self.in_channels * self.out_channels * self.kernel**2 + 2 * self.out_channels
        if self.op == "head":
            return self.mid_channels * self.in_channels + (self.mid_channels + 1) * self.out_channels
        expansion = (self.in_channels + 2) * self.mid_channels if self.expands else 0
        depthwise = self.mid_channels * (self.kernel**2 + 2)
        squeeze_excite = 2 * self.mid_channels * self.se_channels + self.mid_channels + self.se_channels
        projection = (self.mid_channels + 2) * self.out_channels
        return expansion + depthwise + (squeeze_excite if self.se else 0) + projection

    @property
    def weights(self) -> int:
        """Constants of the exported block, in which a batch norm is one bias a channel."""
        if self.op == "conv":
            return self.params - self.out_channels
        if self.op == "head":
            return self.params
        return self.params - self.out_channels - self.mid_channels * (2 if self.expands else 1)

    @property
    def peak_activations(self) -> int:
        """Most activations alive at once, for one image: operations in order, activation functions in place.

        The input of an operation lives until its output is there, that of a block with a skip until the end.
        """
        pixels_in, pixels_out = self.in_height * self.in_width, self.out_height * self.out_width
        taken, given = self.in_channels * pixels_in, self.out_channels * pixels_out
        if self.op == "conv":
            return taken + given
        if self.op == "head":
            return max(taken + self.in_channels, self.in_channels + self.mid_channels, self.mid_channels + given)
        expanded, filtered = self.mid_channels * pixels_in, self.mid_channels * pixels_out
        kept = taken if self.skip else 0
        most = max(taken + filtered, kept + filtered + given)
        if self.se:
            most = max(most, kept + filtered + self.mid_channels + self.se_channels)
        return max(most, taken + expanded, kept + expanded + filtered) if self.expands else most

    @property
    def key(self) -> str:
        """A short unique text, such as ``mbconv:16x11x11:m48:o16:k3:s1:h_swish:skip``."""
        parts = [self.op, f"{self.in_channels}x{self.in_height}x{self.in_width}"]
        parts += [f"m{self.mid_channels}", f"o{self.out_channels}", f"k{self.kernel}", f"s{self.stride}"]
        return ":".join([*parts, self.activation, *(["se"] if self.se else []), *(["skip"] if self.skip else [])])

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return asdict(self)


def _out_size(size: int, kernel: int, stride: int) -> int:
    return (size + 2 * (kernel // 2) - kernel) // stride + 1
