"""The steps of a fine-tuning that give networks, each in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.errors import DivergedError
from hwnas.files import read_model, sha256_of, write_json
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuned import Made, TriedRate
from hwnas.pipeline.networks import ready_subnet
from hwnas.pipeline.steps import Steps
from hwnas.progress import Progress
from hwnas.spaces import Architecture
from hwnas.supernet import NetworkRecord, PlainNetwork, load_network, save_network
from hwnas.supernet.network_file import NETWORK_FILE, NETWORK_RECORD
from hwnas.training import TrainingConfig
from hwnas.training.alone import train_alone
from hwnas.training.trainer import dataset_record
from hwnas.training.validation import network_score


@dataclass(frozen=True)
class ScoredNetwork:
    """A network and how good it is.

    Attributes:
        training: how it was trained alone, if it was.
        score: on the validation images, by the space's metric, in 0..1.
    """

    network: PlainNetwork
    training: dict[str, Any] | None
    score: float


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
            return ScoredNetwork(network, None, self.score(network))

        return self.network(stage, {"architecture": architecture.to_json()}, make, architecture)

    def tried(self, before: Stage, config: TrainingConfig) -> TriedRate:
        """What the network comes to by a short training at a learning rate."""
        rate, epochs = config.learning_rate, config.epochs
        directory = self.steps.directory / "rates" / f"{rate:g}"
        path = directory / "tried.json"

        def attempt() -> None:
            try:
                score = self.score(self._trained(directory, *before.load(), config))
                write_json(path, TriedRate(learning_rate=rate, epochs=epochs, score_validation=score))
            except DivergedError as error:
                told = TriedRate(learning_rate=rate, epochs=epochs, score_validation=None, diverged=str(error))
                write_json(path, told)

        inputs = {"network": before.sha256, "config": config.model_dump(mode="json")}
        self.steps.do(f"rates/{rate:g}", inputs, lambda: [path], attempt)
        return read_model(path, TriedRate, what="learning rate that was tried")

    def trained(self, stage: Stage, before: Stage, config: TrainingConfig) -> Stage:
        """The network trained further alone, or as it was where the validation images say that it was better."""
        network, record = before.load()

        def make() -> ScoredNetwork:
            trained = self._trained(stage.directory, network, record, config)
            score = self.score(trained)
            if score < record.score_validation:
                return ScoredNetwork(network, record.training, record.score_validation)
            return ScoredNetwork(trained, {"config": config.model_dump(mode="json"), "torch": torch.__version__}, score)

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
                task=chosen.space.task,
                sharing=chosen.space.sharing(architecture or chosen.architecture),
                weights_sha256="",
                dataset=dataset_record(chosen.dataset),
                training=made.training,
                score_validation=made.score,
            )
            save_network(stage.directory, made.network, record)

        name = stage.directory.relative_to(self.steps.directory).as_posix()
        self.steps.do(name, inputs, lambda: stage.files, write)
        return stage

    def score(self, network: PlainNetwork) -> float:
        """How good a network is on the validation images, in 0..1."""
        return network_score(network, self.chosen.dataset, self.chosen.dataset.validation)

    def _trained(
        self, directory: Path, network: PlainNetwork, record: NetworkRecord, config: TrainingConfig
    ) -> PlainNetwork:
        return train_alone(directory, record.single_space, self.chosen.dataset, config, self.progress, network)
