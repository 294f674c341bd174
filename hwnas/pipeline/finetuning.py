"""``hwnas finetune``: a chosen subnet trained further alone, and made narrower than its space allows.

Every step leaves its results in the directory and is skipped if it was done with the same inputs, so that what was
killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hwnas.devices import CompileOptions, Device, informed
from hwnas.files import locked, read_model, require_same, sha256_of, write_atomic, write_json
from hwnas.pipeline.chosen import Chosen
from hwnas.pipeline.finetuned import FineTuningResult, TriedRate
from hwnas.pipeline.finetuned_figures import figures_of, model_path, promise_builds
from hwnas.pipeline.finetuning_options import FineTuningConfig, Pruning, TrainingPlan
from hwnas.pipeline.finetuning_rates import best_rate, short
from hwnas.pipeline.network_steps import NetworkSteps, ScoredNetwork, Stage
from hwnas.pipeline.pruning import Pruner, Savings
from hwnas.pipeline.steps import Steps
from hwnas.pipeline.unpruned import nearest_unpruned
from hwnas.progress import Progress, Silent
from hwnas.search import Percentile
from hwnas.search.finalists import PROMISE_BUILDS
from hwnas.spaces import Architecture
from hwnas.supernet import save_network
from hwnas.supernet.checkpoint import WEIGHTS_FILE
from hwnas.supernet.pruning import MULTIPLE, Layout, channel_importance, narrowed
from hwnas.training.tasks import task_of
from hwnas.training.validation import recalibrated

MODEL_FILE = "model.onnx"


class FineTuning:
    """One fine-tuning in a directory.

    Args:
        directory: of the results; at the end ``network.safetensors`` with ``network.json``, ``model.onnx`` and
            ``result.json``.
        chosen: what is fine-tuned.
        plan: of :func:`training_plan`.
        device: on which latencies are measured.
        pruning: None: the widths stay.
        statistic: of the latency, that is measured and limited.
        builds: fresh ones of each network that is measured for the result.
        tables: directory of latency tables, for an unpruned subnet beside the pruned network.
        options: how models are compiled and run; by default as the target says, but detectors in FP32.
    """

    def __init__(
        self,
        directory: Path,
        chosen: Chosen,
        plan: TrainingPlan,
        device: Device,
        pruning: Pruning | None = None,
        *,
        statistic: Percentile = "p50",
        builds: int = PROMISE_BUILDS,
        tables: Path = Path("latency_tables"),
        options: CompileOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.directory, self.chosen, self.plan, self.pruning = directory, chosen, plan, pruning
        self.tables = tables
        self.progress = progress or Silent()
        self.steps = Steps(directory)
        self.networks = NetworkSteps(chosen, self.steps, self.progress)
        journal = directory / "journal.jsonl"
        multiple = pruning.multiple if pruning else MULTIPLE
        detects = chosen.space.task == "detection"
        usual = device.default_options()
        asked = options or (replace(usual, precision="fp32") if detects else usual)
        informed_options = informed(asked, device.fingerprint(asked))
        self.pruner = Pruner(
            device, chosen.space, informed_options, statistic, journal, self.progress, builds, multiple
        )
        self.result_path = directory / "result.json"

    @property
    def outputs(self) -> list[Path]:
        """The files that are delivered."""
        return [self.result_path, *Stage("fine-tuned", self.directory).files, self.directory / MODEL_FILE]

    def execute(self) -> FineTuningResult:
        """Do what is not done yet, and return the figures.

        Raises:
            InfeasibleBudgetError: no pruning keeps the limit; before any training, where that can be known.
            UserError: the directory is another fine-tuning's, the data does not fit, or nothing is to be pruned.
            DivergedError: a training diverged.
            DeviceError: the device failed.
        """
        self._require_fitting()
        with locked(self.directory):
            self._freeze()
            extracted = Stage("extracted", self.directory / "extracted")
            self.networks.extracted(extracted, self.chosen.architecture)
            savings = self._savings(extracted)
            rates = self._tried(extracted)
            rate = best_rate(rates) if rates else self.plan.config.learning_rate
            tuned = Stage("fine-tuned", self.directory / "fine-tuned")
            config = self.plan.config.model_copy(update={"learning_rate": rate})
            stages = [extracted, self.networks.trained(tuned, extracted, config)]
            if savings is not None:
                stages.append(self._pruned(stages[-1], savings, rate))
            return self._result(stages, savings, rate, rates)

    def _require_fitting(self) -> None:
        """What does not fit is refused before anything is written."""
        chosen = self.chosen
        task_of(chosen.space, chosen.dataset, self.plan.config)
        chosen.supernet  # noqa: B018 - it is opened

    def _freeze(self) -> None:
        path = self.directory / "config.json"
        chosen = self.chosen
        config = FineTuningConfig(
            space=chosen.space.name,
            architecture=chosen.architecture.to_json(),
            supernet_sha256=sha256_of(chosen.supernet_directory / WEIGHTS_FILE),
            dataset_fingerprint=chosen.dataset.fingerprint,
            training=self.plan.config,
            rates=self.plan.rates,
        )
        if path.exists():
            found = read_model(path, FineTuningConfig, what="fine-tuning configuration")
            require_same(self.directory, "fine-tuning", found, config)
        write_json(path, config)

    # --- networks -----------------------------------------------------------------------------------------

    def _tried(self, extracted: Stage) -> list[TriedRate]:
        """What each learning rate comes to that is to be tried."""
        config, images = self.plan.config, len(self.chosen.dataset.train)
        return [self.networks.tried(extracted, short(config, rate, images)) for rate in self.plan.rates]

    def _pruned(self, before: Stage, savings: Savings, rate: float) -> Stage:
        """The network with fewer channels, by rounds of pruning and fine-tuning."""
        assert self.pruning is not None
        pruning = self.pruning
        limits = savings.limits_ms(pruning.rounds)
        config = pruning.training.model_copy(update={"learning_rate": rate})
        directory = self.directory / f"pruned-{_digest([limits, config.model_dump(mode='json'), self._measuring])[:8]}"
        stage = before
        for number, limit_ms in enumerate(limits, start=1):
            narrow = self._narrowed(stage, directory / f"{number}-narrowed", savings, limit_ms)
            stage = self.networks.trained(Stage("pruned", directory / f"{number}-trained"), narrow, config)
        return stage

    def _narrowed(self, before: Stage, directory: Path, savings: Savings, limit_ms: float) -> Stage:
        dataset, resolution = self.chosen.dataset, self.chosen.architecture.resolution
        task = task_of(self.chosen.space, dataset, self.plan.config)

        def make() -> ScoredNetwork:
            network, record = before.load()
            layout = Layout(record.network, record.sharing)
            importance = channel_importance(network, layout, task.losses(network, resolution))
            widths = self.pruner.choose(layout, importance, savings, limit_ms)
            narrow = narrowed(network, layout, widths, importance)
            narrow = recalibrated(narrow, resolution, dataset, self.chosen.supernet.recalibration)
            return ScoredNetwork(narrow, record.training, self.networks.score(narrow))

        given = {"network": before.sha256, "limit_ms": limit_ms, "savings": savings.model_dump(mode="json")}
        return self.networks.network(Stage("pruned", directory), given | self._measuring, make)

    # --- measurements -------------------------------------------------------------------------------------

    @cached_property
    def _measuring(self) -> dict[str, object]:
        """What a measured latency depends on, beside the network."""
        pruner = self.pruner
        identity = pruner.device.fingerprint(pruner.options).identity8
        return {"device": identity, "statistic": pruner.statistic, "builds": pruner.builds, "multiple": pruner.multiple}

    def _savings(self, extracted: Stage) -> Savings | None:
        """What narrower widths save, measured before anything is trained; None where none is to become narrower."""
        if self.pruning is None:
            return None
        limit, path = self.pruning.limit, self.directory / "savings.json"
        record = extracted.load()[1]
        layout = Layout(record.network, record.sharing)
        self.steps.do(
            "savings",
            {"network": extracted.sha256, "ms": limit.ms, "share": limit.share, **self._measuring},
            lambda: [path],
            lambda: write_json(path, self.pruner.savings(layout, limit)),
        )
        savings = read_model(path, Savings, what="measured savings")
        savings.require_feasible(self.pruner.statistic)
        return savings

    def _result(
        self, stages: Sequence[Stage], savings: Savings | None, rate: float, rates: Sequence[TriedRate]
    ) -> FineTuningResult:
        last = stages[-1]

        def write() -> None:
            pruner, chosen = self.pruner, self.chosen
            compared, missing = list(stages), None
            if savings is not None:
                unpruned = nearest_unpruned(pruner, chosen, self.tables, savings.limit_ms)
                if isinstance(unpruned, Architecture):
                    stage = Stage("unpruned", self.directory / "unpruned")
                    compared.append(self.networks.extracted(stage, unpruned))
                else:
                    missing = unpruned
            figures = figures_of(compared, pruner, chosen.dataset, self.directory)
            save_network(self.directory, *last.load())
            write_atomic(self.directory / MODEL_FILE, model_path(self.directory, last.made).read_bytes())
            pruned = next((each for each in figures if each.made == "pruned"), None)
            result = FineTuningResult(
                space=chosen.space.name,
                architecture=chosen.architecture.id,
                dataset=chosen.dataset.name,
                metric=chosen.space.metric,
                learning_rate=rate,
                rates=tuple(rates),
                target=pruner.device.target.name,
                statistic=pruner.statistic,
                basis="gated" if pruner.device.target.shared else "ungated",
                builds=promise_builds(pruner),
                limit_ms=savings.limit_ms if savings else None,
                kept=pruned.latency.figure_ms <= savings.limit_ms if savings and pruned else None,
                networks=tuple(figures),
                delivered=last.made,
                unpruned_missing=missing,
            )
            write_json(self.result_path, result)

        given: dict[str, Any] = {
            "networks": [stage.sha256 for stage in stages],
            "tables": str(self.tables),
            **self._measuring,
        }
        given["limit_ms"] = savings.limit_ms if savings else None
        self.steps.do("result", given, lambda: self.outputs, write)
        return read_model(self.result_path, FineTuningResult, what="result of a fine-tuning")


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
