"""What the directory of a finished run gives to a bundle."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import onnx

from hwnas.data.tasks import AnyDataset, load_for
from hwnas.deploy.content import BundleContent
from hwnas.deploy.manifest import Checked, Limits
from hwnas.devices import CompileOptions, RuntimeChoice, load_target
from hwnas.errors import BadFileError
from hwnas.export.metadata import load_model
from hwnas.files import read_bytes, read_model, sha256_of
from hwnas.latency import load_table
from hwnas.pipeline.bundled_network import BundledNetwork
from hwnas.pipeline.bundling import BundleOptions, bundle_content
from hwnas.pipeline.config import CONFIG_FILE, RunConfig
from hwnas.pipeline.documents import ExportRecord, Summary, WinnerDocument
from hwnas.pipeline.networks import export_subnet, open_supernet
from hwnas.pipeline.steps import Steps
from hwnas.pipeline.training import require_supernet
from hwnas.progress import Progress
from hwnas.search.pareto import pareto_front
from hwnas.search.record import Evaluation, read_evaluations
from hwnas.spaces import Architecture, Space, get_space
from hwnas.supernet import ElasticNetwork, load_record


class FinishedRun:
    """A directory in which ``hwnas run`` ended with a winner.

    Raises:
        BadFileError: there is none, or it is damaged.
    """

    def __init__(self, directory: Path) -> None:
        if not (directory / "summary.json").is_file():
            raise BadFileError(f"{directory} holds no finished run; end it with `hwnas run --name {directory.name}`.")
        self.directory = directory
        self.config = read_model(directory / CONFIG_FILE, RunConfig, what="run configuration")
        self.summary = read_model(directory / "summary.json", Summary, what="summary")
        self.winner = read_model(directory / "winner.json", WinnerDocument, what="winner")
        self._steps = Steps(directory)

    @cached_property
    def dataset(self) -> AnyDataset:
        """The data set that it was for."""
        root = Path(self.config.data_root) if self.config.data_root else None
        return load_for(get_space(self.config.space), self.config.dataset, root=root)

    @cached_property
    def space(self) -> Space:
        """The space that was searched."""
        return get_space(self.config.space, self.dataset.num_classes)

    @cached_property
    def supernet(self) -> Path:
        """Where the weights are."""
        own = self.directory / "supernet"
        if self.config.supernet:
            return Path(self.config.supernet)
        return own if own.is_dir() else require_supernet(self.space.name, self.dataset)

    @cached_property
    def table(self) -> Path:
        """The latency table that was searched with."""
        return Path(self.config.table) if self.config.table else self._steps.output("profile", ".json")

    @cached_property
    def compile_options(self) -> CompileOptions:
        """How the target builds and runs models, in the run's precision."""
        target = load_target(self.config.target)
        return target.limited(RuntimeChoice(precision=self.config.precision).options(target))

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """What was evaluated, in the search and after the finalists were measured."""
        search = self._steps.output("search", "search.json").parent
        return [*read_evaluations(search, self.space), *read_evaluations(search / "refined", self.space)]

    def front(self, count: int) -> list[Evaluation]:
        """The winner and up to ``count`` - 1 faster networks of its resolution, spread over the Pareto front."""
        winner = next(each for each in self.evaluations if each.architecture.id == self.winner.id)
        alike = [each for each in self.evaluations if each.architecture.resolution == winner.architecture.resolution]
        faster = [
            each for each in pareto_front(alike) if each.predicted_ms < winner.predicted_ms and each.top1 < winner.top1
        ]
        rows = np.linspace(0, len(faster) - 1, min(count - 1, len(faster))).round().astype(int)
        return [winner, *(faster[row] for row in dict.fromkeys(rows.tolist()))]

    def exported(self, architecture: Architecture) -> bytes:
        """The ONNX file of an evaluated subnet, as the run made it, or as it would.

        Raises:
            BadFileError: the file is not the one that the run wrote.
        """
        path = self.directory / "models" / f"{architecture.id}.onnx"
        if path.exists():
            record = read_model(path.with_suffix(".json"), ExportRecord, what="export record")
            content = read_bytes(path, what="model")
            if hashlib.sha256(content).hexdigest() != record.sha256:
                raise BadFileError(f"model {path} is not the one that the run wrote; run it again.")
            return content
        with TemporaryDirectory() as directory:
            made = Path(directory) / path.name
            precision = self.compile_options.precision
            export_subnet(self._weights, architecture, self.dataset, made, precision, self._remainder)
            return made.read_bytes()

    @cached_property
    def _weights(self) -> ElasticNetwork:
        return open_supernet(self.supernet, self.space, self.dataset)

    @cached_property
    def _remainder(self) -> Literal["fp32", "fp16"]:
        """Of the winner in INT8, what is not quantised."""
        model = load_model(self.directory / "models" / f"{self.winner.id}.onnx")
        types = {tensor.data_type for tensor in model.graph.initializer}
        return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"

    def content(
        self,
        name: str,
        pareto: int = 1,
        memory_mib: float | None = None,
        options: BundleOptions | None = None,
        progress: Progress | None = None,
    ) -> BundleContent:
        """A bundle of its winner and ``pareto`` - 1 faster networks, with the run's budget."""
        summary = self.summary
        chosen = self.front(pareto)
        limits = Limits(statistic=summary.statistic, latency_ms=summary.budget_ms, memory_mib=memory_mib)
        alone, data = len(chosen) == 1, self.dataset.name
        networks = [
            BundledNetwork(
                id=each.architecture.id,
                content=self.exported(each.architecture),
                limits=limits,
                accuracy=summary.top1 if alone else each.top1,
                expected_ms=summary.promised_ms if each.architecture.id == self.winner.id else each.predicted_ms,
            )
            for each in chosen
        ]
        provenance = {
            "space": self.space.name,
            "architectures": {each.architecture.id: each.architecture.to_json() for each in chosen},
            "supernet_sha256": load_record(self.supernet).weights_sha256,
            "accuracy_of": f"test images of {data}, by the engine" if alone else f"validation images of {data}",
        }
        checked = checked_by(self.table)
        return bundle_content(
            name, networks, self.compile_options, self.dataset, provenance, checked, options, progress
        )


def checked_by(path: Path) -> Checked:
    """The table that a budget was checked against.

    Raises:
        UserError: it is missing or damaged.
    """
    table = load_table(path)
    return Checked(
        target=table.target, table=path.name, table_sha256=sha256_of(path), identity=table.fingerprint.identity8
    )
