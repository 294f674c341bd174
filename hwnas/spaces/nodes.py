"""What a block computes, as a list of nodes: the one description that its counts and every runtime's graph come from.

Batch norms do not occur: they are folded into the convolutions before them, as in every deployed network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from hwnas.spaces.padding import Padding, pads

INPUT = "input"
Attribute = int | float | str | list[int]
Shape = list[int]
"""Of a tensor without the batch dimension, which comes first."""


def graph_input(number: int) -> str:
    """The name of a graph's first (0), second, … input."""
    return f"{INPUT}{number + 1}" if number else INPUT


class Node(TypedDict):
    """One operation, in JSON's types alone, with the meaning that ONNX gives to its operator.

    * ``name``: the path of the corresponding module in :class:`hwnas.supernet.PlainNetwork`, such as
      ``4.depthwise.conv`` in block 4; operations without a module have a name of their own below their block.  A
      convolution whose name ends in ``.conv`` has a batch norm folded into it.
    * ``op``: ``Conv``, ``Relu``, ``Clip``, ``HardSwish``, ``HardSigmoid``, ``GlobalAveragePool``, ``AveragePool``,
      ``MaxPool``, ``Mul``, ``Add``, ``Concat``, ``Resize``, ``Flatten`` or ``Gemm``.
    * ``inputs``: the tensors that it reads, in order: inputs of the graph (:func:`graph_input`) or outputs of earlier
      nodes.
    * ``output``: the tensor that it writes: its own name, or the name of the graph's output.
    * ``attributes``: all that ONNX defines for these operators and that matters to the result; the bounds of ``Clip``
      and the ``scales`` of ``Resize`` are here too, which ONNX has as inputs.
    * ``parameters``: shapes of its weights by role (``weight``, ``bias``), in the order of its further inputs; the
      tensor is called ``<name>.<role>``.
    * ``shape``: of the output without the batch dimension, which comes first.
    """

    name: str
    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Attribute]
    parameters: dict[str, list[int]]
    shape: list[int]


def macs_of(node: Node) -> int:
    """Multiply-accumulates for one image: each output takes as many products as a filter has weights."""
    weight = node["parameters"].get("weight")
    return math.prod(node["shape"]) * math.prod(weight[1:]) if weight else 0


class Chain:
    """Nodes under construction, block by block; ``tensor`` of ``shape`` is what the last one gave."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def begin(self, block: int, inputs: Sequence[tuple[str, Shape]]) -> None:
        """Begin a block of that number, which reads tensors of these names and shapes; the first is the last given."""
        self.block, self.inputs = block, inputs
        self.tensor, self.shape = inputs[0]

    def append(
        self,
        name: str,
        op: str,
        shape: list[int],
        *,
        inputs: list[str] | None = None,
        attributes: dict[str, Attribute] | None = None,
        parameters: dict[str, list[int]] | None = None,
    ) -> None:
        """A node that reads ``inputs``, by default the last tensor."""
        name = f"{self.block}.{name}"
        self.nodes.append(
            Node(
                name=name,
                op=op,
                inputs=inputs or [self.tensor],
                output=name,
                attributes=attributes or {},
                parameters=parameters or {},
                shape=shape,
            )
        )
        self.tensor, self.shape = name, shape

    def conv(
        self,
        name: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding: Padding = "symmetric",
    ) -> None:
        """A convolution to ⌈size/stride⌉ pixels."""
        in_channels = self.shape[0]
        before, after = zip(*(pads(size, kernel, stride, padding) for size in self.shape[1:]), strict=True)
        weight = [channels, in_channels // groups, kernel, kernel]
        self.append(
            name,
            "Conv",
            self._windowed(channels, kernel, stride, kernel // 2),
            attributes={
                "dilations": [1, 1],
                "group": groups,
                "kernel_shape": [kernel, kernel],
                "pads": [*before, *after],
                "strides": [stride, stride],
            },
            parameters={"weight": weight, "bias": [channels]} if bias else {"weight": weight},
        )

    def activate(self, name: str, activation: str) -> None:
        """An activation function; ``none`` adds no node."""
        if activation == "relu6":
            self.append(name, "Clip", self.shape, attributes={"min": 0.0, "max": 6.0})
        elif activation != "none":
            self.append(name, {"relu": "Relu", "h_swish": "HardSwish"}[activation], self.shape)

    def global_pool(self, name: str) -> None:
        """The mean over all pixels."""
        # Rather than ReduceMean, whose form changes between opsets 17 and 18, which ONNX Runtime's CPU provider
        # executes more slowly (4 % of a small network), and which TensorRT cannot compute in INT8.
        self.append(name, "GlobalAveragePool", [self.shape[0], 1, 1])

    def average_pool(self, name: str, kernel: int, stride: int, padding: int = 0) -> None:
        """The mean of what lies in each window; padding is not counted."""
        self.append(
            name,
            "AveragePool",
            self._windowed(self.shape[0], kernel, stride, padding),
            attributes={
                "ceil_mode": 0,
                # As torch exports it: without padding this says nothing.
                "count_include_pad": int(padding == 0),
                "kernel_shape": [kernel, kernel],
                "pads": [padding] * 4,
                "strides": [stride, stride],
            },
        )

    def max_pool(self, name: str, kernel: int, stride: int) -> None:
        """The greatest value in each window, with padding ``kernel // 2``."""
        self.append(
            name,
            "MaxPool",
            self._windowed(self.shape[0], kernel, stride, kernel // 2),
            attributes={
                "ceil_mode": 0,
                "dilations": [1, 1],
                "kernel_shape": [kernel, kernel],
                "pads": [kernel // 2] * 4,
                "strides": [stride, stride],
            },
        )

    def upsample(self, name: str, factor: int) -> None:
        """Each pixel as a square of ``factor`` pixels."""
        channels, height, width = self.shape
        self.append(
            name,
            "Resize",
            [channels, height * factor, width * factor],
            attributes={
                "coordinate_transformation_mode": "asymmetric",
                "mode": "nearest",
                "nearest_mode": "floor",
                "scales": [1, 1, factor, factor],
            },
        )

    def concat(self, name: str, tensors: list[str], channels: int) -> None:
        """Tensors of the last one's height and width, their ``channels`` one after the other."""
        self.append(name, "Concat", [channels, *self.shape[1:]], inputs=tensors, attributes={"axis": 1})

    def squeeze_excite(self, squeezed: int) -> None:
        """Channel attention with a hard sigmoid gate (Howard et al. 2019, Sec. 5.3)."""
        features, shape = self.tensor, self.shape
        self.global_pool("se.pool")
        self.conv("se.reduce", squeezed)
        self.activate("se.relu", "relu")
        self.conv("se.expand", shape[0])
        self.append("se.gate", "HardSigmoid", self.shape, attributes={"alpha": 1 / 6, "beta": 0.5})
        self.append("se.scale", "Mul", shape, inputs=[features, self.tensor])

    def _windowed(self, channels: int, kernel: int, stride: int, padding: int) -> list[int]:
        return [channels, *((size + 2 * padding - kernel) // stride + 1 for size in self.shape[1:])]
