"""A network with weights of its own on disk: ``network.safetensors`` and, beside it, ``network.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import AliasChoices, Field

from hwnas.files import Document, read_model, write_json
from hwnas.spaces import Architecture, Network, Space, Task, single_space
from hwnas.supernet.checkpoint import DatasetRecord, fill, write_weights
from hwnas.supernet.plain import PlainNetwork

NETWORK_FILE = "network.safetensors"
NETWORK_RECORD = "network.json"


class NetworkRecord(Document):
    """What is known of a network alone: its blocks, where it comes from, its data, how good it is."""

    space: str
    """That it was extracted from."""
    architecture: dict[str, Any] | None
    """In that space, as JSON; None where it is in the space no longer, since channels were pruned."""
    network: Network
    """Its blocks and how they are connected."""
    norm_eps: float
    task: Task = "classification"
    sharing: dict[int, int] = Field(default_factory=dict)
    """As of :meth:`hwnas.spaces.Space.sharing`; it holds while the network is trained further."""
    weights_sha256: str
    dataset: DatasetRecord
    training: dict[str, Any] | None
    """Configuration of its training alone, None where it has the supernet's weights."""
    score_validation: float = Field(validation_alias=AliasChoices("score_validation", "top1_validation"))
    """Top-1, or a detector's mean average precision, in 0..1."""

    @property
    def identity(self) -> Architecture:
        """The architecture in its space; of a pruned network, the one of a space of its own."""
        if self.architecture is not None:
            return Architecture.from_json(self.architecture)
        return self.single_space.largest

    @property
    def single_space(self) -> Space:
        """The space of this network alone."""
        classes = len(self.dataset.class_names)
        return single_space(
            self.space, self.network, self.norm_eps, task=self.task, num_classes=classes, sharing=self.sharing
        )

    @property
    def resolution(self) -> int:
        """Side of its input in pixels."""
        return self.network.blocks[0].in_height


def save_network(directory: Path, network: PlainNetwork, record: NetworkRecord) -> NetworkRecord:
    """Write weights and record, each whole or not at all; returns the record with the weights' hash."""
    record = record.model_copy(update={"weights_sha256": write_weights(network, directory / NETWORK_FILE)})
    write_json(directory / NETWORK_RECORD, record)
    return record


def holds_network(directory: Path) -> bool:
    """Whether there is such a network."""
    return (directory / NETWORK_RECORD).exists()


def load_network(directory: Path) -> tuple[PlainNetwork, NetworkRecord]:
    """Read a network in evaluation mode, and its record.

    Raises:
        BadFileError: a file is missing, is not what its record says (hash), or does not fit the blocks.
    """
    record = read_model(directory / NETWORK_RECORD, NetworkRecord, what="network record")
    network = PlainNetwork(record.network, record.norm_eps)
    fill(network, directory / NETWORK_FILE, record.weights_sha256, what="network weights")
    return network.to(memory_format=torch.channels_last).eval(), record  # type: ignore[call-overload]
