"""What a user wants bundled: a run, or ONNX files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from hwnas.data.tasks import AnyDataset
from hwnas.deploy.content import BundleContent
from hwnas.deploy.manifest import NAME_PATTERN, Limits
from hwnas.devices import RuntimeChoice, load_target
from hwnas.errors import UserError
from hwnas.export.metadata import load_model
from hwnas.files import describe, read_bytes
from hwnas.pipeline.bundled_network import BundledNetwork, network_id
from hwnas.pipeline.bundled_run import FinishedRun, checked_by
from hwnas.pipeline.bundling import BundleOptions, bundle_content
from hwnas.pipeline.model_data import load_for_model
from hwnas.progress import Progress


@dataclass(frozen=True)
class LooseModels:
    """ONNX files without a run, and the target that they are for.

    Attributes:
        choice: how they are run there.
        limits: of each.
        dataset: that they were trained for, ``None``: it is not at hand.
        table: latency table that the limits were checked against.
    """

    paths: Sequence[Path]
    target: str
    choice: RuntimeChoice
    limits: Limits
    dataset: AnyDataset | None = None
    table: Path | None = None

    def content(
        self, name: str, options: BundleOptions | None = None, progress: Progress | None = None
    ) -> BundleContent:
        """A bundle of the models; with a data set, their accuracy is that on its validation images."""
        target = load_target(self.target)
        compile_options = target.limited(self.choice.options(target))
        networks = [self._network(path) for path in self.paths]
        architectures = {each.id: found for each in networks if (found := each.says("architecture")) is not None}
        spaces = {str(found["space"]) for found in architectures.values() if isinstance(found, dict)}
        provenance: dict[str, Any] = {
            "space": spaces.pop() if len(spaces) == 1 else None,
            "architectures": architectures,
            "accuracy_of": None if self.dataset is None else f"validation images of {self.dataset.name}",
        }
        checked = None if self.table is None else checked_by(self.table)
        return bundle_content(name, networks, compile_options, self.dataset, provenance, checked, options, progress)

    def _network(self, path: Path) -> BundledNetwork:
        load_model(path)  # a file that is no model is refused by its name
        return BundledNetwork(network_id(path.stem), read_bytes(path, what="model"), self.limits)


@dataclass(frozen=True)
class BundleRequest:
    """What is to be bundled, as a user says it; ``None`` is what was not said.

    Attributes:
        sources: a run's directory, or ONNX files.
        pareto: networks of a run.
        target, choice, data, data_root, budget_ms, statistic, table: of ONNX files; a run knows them.
    """

    sources: Sequence[Path]
    name: str | None = None
    pareto: int | None = None
    memory_mib: float | None = None
    target: str | None = None
    choice: RuntimeChoice = field(default_factory=RuntimeChoice)
    data: str | None = None
    data_root: Path | None = None
    budget_ms: float | None = None
    statistic: Literal["p50", "p99"] | None = None
    table: Path | None = None

    def content(self, options: BundleOptions | None = None, progress: Progress | None = None) -> BundleContent:
        """Compute what the bundle holds.

        Raises:
            UserError: something was said that does not apply, or is missing.
        """
        first = self.sources[0]
        name = network_id(first.resolve().name if first.is_dir() else first.stem) if self.name is None else self.name
        if not re.fullmatch(NAME_PATTERN, name):
            raise UserError(f"'{name}' cannot name a bundle; use up to 64 of a-z, 0-9 and -, a letter or digit first.")
        try:
            if any(source.is_dir() for source in self.sources):
                return self._run().content(name, self.pareto or 1, self.memory_mib, options, progress)
            return self._models().content(name, options, progress)
        except ValidationError as error:
            raise UserError(f"This makes no bundle: {describe(error)}.") from error

    def _run(self) -> FinishedRun:
        if len(self.sources) > 1:
            raise UserError("One bundle is of one run's directory, or of ONNX files; give one or the other.")
        of_models = (self.target, self.data, self.data_root, self.budget_ms, self.statistic, self.table)
        if any(said is not None for said in of_models) or self.choice != RuntimeChoice():
            raise UserError(
                "A run knows its target, runtime, data, budget and table; leave out --target, --runtime, --provider, "
                "--precision, --data, --data-root, --budget, --statistic and --table, which are for ONNX files."
            )
        return FinishedRun(self.sources[0])

    def _models(self) -> LooseModels:
        if self.pareto is not None:
            raise UserError("--pareto chooses among the networks of a run; give several ONNX files instead.")
        if self.target is None:
            raise UserError("An ONNX file does not say what it is for; give --target.")
        dataset = None if self.data is None else load_for_model(self.sources[0], self.data, root=self.data_root)
        limits = Limits(statistic=self.statistic or "p99", latency_ms=self.budget_ms, memory_mib=self.memory_mib)
        return LooseModels(self.sources, self.target, self.choice, limits, dataset, self.table)
