"""Channels followed through a network, node by node."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hwnas.spaces import Network
from hwnas.spaces.nodes import Node, graph_input

Channels = npt.NDArray[np.int64]
"""Of a feature map, the number of each channel."""
Field = tuple[int, str]
"""Number of a block, name of one of its widths."""

INNER_WIDTHS: dict[str, dict[str, str]] = {
    "conv": {},
    "mbconv": {"depthwise": "mid_channels"},
    "bottleneck": {"reduce": "mid_channels", "filter": "mid_channels"},
    "fire": {"squeeze": "mid_channels", "spatial": "spatial_channels"},
    "separable": {"first.mix": "in_channels"},
    "separable_conv": {},
    "fuse_coarser": {},
    "fuse_finer": {},
    "fuse_finer_twice": {},
    "predict": {},
    "adapt": {},
    "add": {},
    "concat": {},
    "max_pool": {},
    "average_pool": {},
    "head": {"mix": "mid_channels"},
}
"""By operation, of the layers inside its block: the field of the block that says how many channels they write."""

LAYERS = ("Conv", "Gemm")
"""Nodes that mix channels, or filter each."""


class Trace:
    """What every layer of a network reads and writes.

    Attributes:
        count: of numbers that were given to channels.
        ties: pairs of equally long maps that are the same channels under several numbers, since they are added up or
            multiplied, or since layers that share their weights write or read them.
        layers: with weights: path of the module, the channels that it writes, and those that it reads; None of a
            depthwise convolution, which reads no other channels than it writes.
        widths: the maps that are as wide as a field says.
        ends: images, and what the network gives.
    """

    def __init__(self, network: Network, sharing: Mapping[int, int]) -> None:
        self.count = 0
        self.ties: list[tuple[Channels, Channels]] = []
        self.layers: list[tuple[str, Channels, Channels | None]] = []
        self.widths: defaultdict[Field, list[Channels]] = defaultdict(list)
        self._blocks = network.blocks
        images = [self._new(channels) for channels, *_ in network.inputs.values()]
        outputs = network.run(images, self._block)
        self.ends = [*images, *outputs.values()]
        self.ties += self._shared(sharing)

    @property
    def maps(self) -> Iterator[Channels]:
        """Everything that layers write and read, and that fields say the width of."""
        for _, written, read in self.layers:
            yield written
            if read is not None:
                yield read
        for maps in self.widths.values():
            yield from maps

    def _block(self, number: int, taken: Sequence[Channels]) -> Channels:
        spec = self._blocks[number]
        maps = {graph_input(place): channels for place, channels in enumerate(taken)}
        written = taken[0]
        for node in spec.nodes:
            name = node["name"].partition(".")[2].removesuffix(".conv")
            read = [maps[tensor] for tensor in node["inputs"]]
            maps[node["output"]] = written = self._node(f"{number}.{name}", node, read)
            if name in INNER_WIDTHS[spec.op]:
                self.widths[number, INNER_WIDTHS[spec.op][name]].append(written)
        self.widths[number, "in_channels"] += taken
        self.widths[number, "out_channels"].append(written)
        return written

    def _node(self, path: str, node: Node, read: Sequence[Channels]) -> Channels:
        if node["op"] == "Concat":
            return np.concatenate(read)
        if node["op"] not in LAYERS:  # activations, pools, sums and products go channel by channel
            self.ties += pairwise(read)
            return read[0]
        if node["attributes"].get("group", 1) != 1:
            self.layers.append((path, read[0], None))
            return read[0]
        written = self._new(node["shape"][0])
        self.layers.append((path, written, read[0]))
        return written

    def _shared(self, sharing: Mapping[int, int]) -> Iterator[tuple[Channels, Channels]]:
        """What layers write and read, with what those do whose weights they have."""
        maps = {path: (written, read) for path, written, read in self.layers}
        for path, (written, read) in maps.items():
            block, _, layer = path.partition(".")
            if int(block) in sharing:
                other_written, other_read = maps[f"{sharing[int(block)]}.{layer}"]
                yield written, other_written
                if read is not None and other_read is not None:
                    yield read, other_read

    def _new(self, channels: int) -> Channels:
        self.count += channels
        return np.arange(self.count - channels, self.count)
