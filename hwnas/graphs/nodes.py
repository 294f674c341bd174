"""What a chain of blocks computes, as a list of nodes: the one description that every runtime's graph is made from.

Batch norms do not occur: they are folded into the convolutions before them, as in every deployed network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from hwnas.spaces import BlockSpec

INPUT, NETWORK_OUTPUT, BLOCK_OUTPUT = "input", "logits", "output"
Attribute = int | float | list[int]


class Node(TypedDict):
    """One operation, in JSON's types alone, with the meaning that ONNX gives to its operator.

    * ``name``: the path of the corresponding module in :class:`hwnas.supernet.PlainNetwork`, such as
      ``4.depthwise.conv`` in block 4; operations without a module have a name of their own below their block.
    * ``op``: ``Conv``, ``Relu``, ``HardSwish``, ``HardSigmoid``, ``GlobalAveragePool``, ``Mul``, ``Add``, ``Flatten``
      or ``Gemm``.
    * ``inputs``: the tensors that it reads, in order: ``input`` or outputs of earlier nodes.
    * ``output``: the tensor that it writes: its own name, or the name of the graph's output.
    * ``attributes``: all that ONNX defines for these operators and that matters to the result.
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


def node_list(specs: Sequence[BlockSpec], *, output: str = NETWORK_OUTPUT) -> list[Node]:
    """The operations of consecutive blocks, in an order in which they can be executed.

    Args:
        specs: at least one block; each takes the shape that the one before it gives.
        output: name of the last node's output.

    Raises:
        ValueError: there is no block, or a block does not fit the one before it.
    """
    if not specs:
        raise ValueError("a graph needs at least one block")
    first = specs[0]
    chain = _Chain([first.in_channels, first.in_height, first.in_width])
    for number, spec in enumerate(specs):
        expected = [spec.in_channels, spec.in_height, spec.in_width]
        if chain.shape != expected:
            raise ValueError(f"block {number} ({spec.key}) takes {expected}, but gets {chain.shape}")
        chain.block = number
        _OPERATIONS[spec.op](chain, spec)
    chain.nodes[-1]["output"] = output
    return chain.nodes


class _Chain:
    """Nodes under construction; ``tensor`` of ``shape`` is what the last one gave."""

    def __init__(self, shape: list[int]) -> None:
        self.nodes: list[Node] = []
        self.tensor = INPUT
        self.shape = shape
        self.block = 0

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
        self, name: str, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        """A convolution with padding ``kernel // 2``."""
        in_channels, *sizes = self.shape
        padding = kernel // 2
        weight = [channels, in_channels // groups, kernel, kernel]
        self.append(
            name,
            "Conv",
            [channels, *((size + 2 * padding - kernel) // stride + 1 for size in sizes)],
            attributes={
                "dilations": [1, 1],
                "group": groups,
                "kernel_shape": [kernel, kernel],
                "pads": [padding] * 4,
                "strides": [stride, stride],
            },
            parameters={"weight": weight, "bias": [channels]} if bias else {"weight": weight},
        )

    def activate(self, name: str, activation: str) -> None:
        self.append(name, {"relu": "Relu", "h_swish": "HardSwish"}[activation], self.shape)

    def pool(self, name: str) -> None:
        """The mean over all pixels."""
        # Rather than ReduceMean, whose form changes between opsets 17 and 18, which ONNX Runtime's CPU provider
        # executes more slowly (4 % of a small network), and which TensorRT cannot compute in INT8.
        self.append(name, "GlobalAveragePool", [self.shape[0], 1, 1])

    def squeeze_excite(self, squeezed: int) -> None:
        features, shape = self.tensor, self.shape
        self.pool("se.pool")
        self.conv("se.reduce", squeezed)
        self.activate("se.relu", "relu")
        self.conv("se.expand", shape[0])
        self.append("se.gate", "HardSigmoid", self.shape, attributes={"alpha": 1 / 6, "beta": 0.5})
        self.append("se.scale", "Mul", shape, inputs=[features, self.tensor])


def _conv(chain: _Chain, spec: BlockSpec) -> None:
    chain.conv("body.conv", spec.out_channels, spec.kernel, spec.stride)
    chain.activate("activation", spec.activation)


def _mbconv(chain: _Chain, spec: BlockSpec) -> None:
    block_input = chain.tensor
    if spec.expands:
        chain.conv("expand.conv", spec.mid_channels)
        chain.activate("expand.activation", spec.activation)
    chain.conv("depthwise.conv", spec.mid_channels, spec.kernel, spec.stride, groups=spec.mid_channels)
    chain.activate("depthwise.activation", spec.activation)
    if spec.se:
        chain.squeeze_excite(spec.se_channels)
    chain.conv("project.conv", spec.out_channels)
    if spec.skip:
        chain.append("skip", "Add", chain.shape, inputs=[block_input, chain.tensor])


def _head(chain: _Chain, spec: BlockSpec) -> None:
    chain.pool("pool")
    chain.conv("mix", spec.mid_channels, bias=False)
    chain.activate("activation", spec.activation)
    chain.append("flatten", "Flatten", [spec.mid_channels], attributes={"axis": 1})
    chain.append(
        "classifier",
        "Gemm",
        [spec.out_channels],
        attributes={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1},
        parameters={"weight": [spec.out_channels, spec.mid_channels], "bias": [spec.out_channels]},
    )


_OPERATIONS: dict[str, Callable[[_Chain, BlockSpec], None]] = {"conv": _conv, "mbconv": _mbconv, "head": _head}
