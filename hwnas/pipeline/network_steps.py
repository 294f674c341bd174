"""The steps of a fine-tuning that give networks, each in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.data import Dataset
from hwnas.files import sha256_of
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuned import Made
from hwnas.pipeline.networks import ready_subnet
from hwnas.pipeline.steps import Steps
from hwnas.progress import Progress
from hwnas.spaces import Architecture
from hwnas.supernet import NetworkRecord, PlainNetwork, load_network, save_network
from hwnas.supernet.network_file import NETWORK_FILE, NETWORK_RECORD
from hwnas.training import TrainingConfig
from hwnas.training.alone import train_alone
from hwnas.training.trainer import dataset_record
from hwnas.training.validation import network_top1


@dataclass(frozen=True)
class ScoredNetwork:
    """A network and its accuracy.

    Attributes:
        training: how it was trained alone, if it was.
        top1_validation: in 0..1.
    """

    network: PlainNetwork
    training: dict[str, Any] | None
    top1_validation: float


@dataclass(frozen=True)
class Stage:
    """A network as it lies in its directory."""

    made: Made
    directory: Path

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return sha256_of(self.directory / NETWORK_FILE)

    @property
    def files(self) -> list[Path]:
        """Weights and record."""
        return [self.directory / NETWORK_FILE, self.directory / NETWORK_RECORD]

    def load(self) -> tuple[PlainNetwork, NetworkRecord]:
        """Network and record."""
        return load_network(self.directory)


@dataclass(frozen=True)
class NetworkSteps:
    """Makes networks of a supernet's subnet that were not made before."""

    chosen: Chosen
    steps: Steps
    progress: Progress

    def extracted(self, stage: Stage, architecture: Architecture) -> Stage:
        """A subnet with the supernet's weights."""
        chosen = self.chosen

        def make() -> ScoredNetwork:
            network = ready_subnet(chosen.supernet, architecture, chosen.dataset)
            return ScoredNetwork(network, None, top1_validation(network, chosen.dataset))

        return self.network(stage, {"architecture": architecture.to_json()}, make, architecture)

    def trained(self, stage: Stage, before: Stage, config: TrainingConfig) -> Stage:
        """The network trained further alone, or as it was where the validation images say that it was better."""
        network, record = before.load()

        def make() -> ScoredNetwork:
            dataset = self.chosen.dataset
            trained = train_alone(stage.directory, record.single_space, dataset, config, self.progress, network)
            top1 = top1_validation(trained, dataset)
            if top1 < record.top1_validation:
                return ScoredNetwork(network, record.training, record.top1_validation)
            return ScoredNetwork(trained, {"config": config.model_dump(mode="json"), "torch": torch.__version__}, top1)

        inputs = {"network": before.sha256, "config": config.model_dump(mode="json")}
        known = None if record.architecture is None else record.identity
        return self.network(stage, inputs, make, known)

    def network(
        self,
        stage: Stage,
        inputs: Mapping[str, Any],
        make: Callable[[], ScoredNetwork],
        architecture: Architecture | None = None,
    ) -> Stage:
        """Any network.

        Args:
            inputs: decide the result.
            architecture: of the supernet's space; None where it is in the space no longer.
        """
        chosen = self.chosen

        def write() -> None:
            made = make()
            record = NetworkRecord(
                space=chosen.space.name,
                architecture=None if architecture is None else architecture.to_json(),
                network=made.network.network,
                norm_eps=made.network.norm_eps,
                weights_sha256="",
                dataset=dataset_record(chosen.dataset),
                training=made.training,
                top1_validation=made.top1_validation,
            )
            save_network(stage.directory, made.network, record)

        name = stage.directory.relative_to(self.steps.directory).as_posix()
        self.steps.do(name, inputs, lambda: stage.files, write)
        return stage


def top1_validation(network: PlainNetwork, dataset: Dataset) -> float:
    """Share of the validation images that a network gets right, in 0..1."""
    return network_top1(network, network.specs[0].in_height, dataset, dataset.validation)
