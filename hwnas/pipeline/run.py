"""``hwnas run``: from a device and a data set to a network whose latency budget holds when measured.

Every step leaves its results in the run directory and is skipped if it was done with the same inputs, so a run
that was killed goes on where it stopped when the same command is given again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from hwnas.data import Dataset, load_dataset
from hwnas.devices import (
    Arrival,
    CompileOptions,
    MeasureOptions,
    RuntimeChoice,
    Target,
    informed,
    load_target,
    open_device,
)
from hwnas.errors import InfeasibleBudgetError, UserError
from hwnas.export import BenchmarkOptions, ExportedModel, benchmark
from hwnas.export.benchmark import P99_SAMPLES
from hwnas.files import locked, read_model, sha256_of, write_json
from hwnas.latency import ProfileOptions, load_table, profile
from hwnas.pipeline.budgets import open_constraints
from hwnas.pipeline.config import RunConfig, command_line, freeze_config
from hwnas.pipeline.documents import BudgetChoice, ExportRecord, Summary, WinnerDocument
from hwnas.pipeline.forms import Form
from hwnas.pipeline.latency import LoadedTable, measure_architecture, open_table, promise_protocol
from hwnas.pipeline.logs import log_file
from hwnas.pipeline.networks import export_subnet, export_yardstick, open_supernet
from hwnas.pipeline.precision import CALIBRATION, PrecisionEvaluator, evaluator_in, service_in
from hwnas.pipeline.reporting import assemble, finalists_document, summarise, winner_document
from hwnas.pipeline.run_finetuning import check_finetuning, fine_tuning_of
from hwnas.pipeline.steps import Steps
from hwnas.pipeline.training import find_supernet, read_settings, train_supernet, training_config
from hwnas.progress import Progress, Silent
from hwnas.report import write_report
from hwnas.search import (
    Budget,
    Evaluation,
    ExportedCandidate,
    Finalist,
    Refinement,
    SearchOptions,
    SearchResult,
    SubnetEvaluator,
    choose_and_promise,
    forget_measurements,
    run_search,
)
from hwnas.search.constraints import Constraint
from hwnas.search.record import read_evaluations
from hwnas.search.search import predictor_digest
from hwnas.search.service import Service, subnet_service
from hwnas.spaces import Architecture, BlockSpec, Space, get_space
from hwnas.spaces.precision import BITS
from hwnas.spaces.yardsticks import mobilenet_v3_small
from hwnas.supernet import ElasticNetwork
from hwnas.training import TrainingConfig

log = logging.getLogger(__name__)

BUDGET_SAMPLE = 10_000
YARDSTICK = "mobilenet_v3_small"


@dataclass(frozen=True, slots=True)
class Model:
    """An exported network: its ONNX file and its blocks."""

    path: Path
    specs: tuple[BlockSpec, ...]


class Run:
    """One run in a directory; the steps are its methods, in order."""

    def __init__(self, directory: Path, config: RunConfig, progress: Progress | None = None) -> None:
        self.directory = directory
        self.config = config
        self.progress = progress or Silent()
        self.steps = Steps(directory)

    def execute(self) -> Summary:
        """Do what is not done yet, and return the figures.

        Raises:
            InfeasibleBudgetError: no architecture keeps the budget.
            UserError: a name or file that the configuration gives is wrong; nothing is left half-written.
        """
        target = self._checked_target()
        # The idle threads of torch spin, and would take the cores from ONNX Runtime and from whatever is measured.
        torch.set_num_threads(self.config.threads)
        with locked(self.directory), log_file(self.directory / "log.txt"), open_device(target) as self.device:
            freeze_config(self.directory, self.config)
            log.info("run: %s on %s with %s", self.space.name, target.name, self.dataset.name)
            self._provide_supernet()
            self._provide_table()
            self._choose_budget()
            self._search()
            self._choose_winner()
            self._benchmark()
            self._finetune()
            return self._report()

    def _checked_target(self) -> Target:
        """The target, once every name and file of the configuration has been looked at.

        This is before anything is written, so that a typing error leaves no directory behind.
        """
        target = load_target(self.config.target)
        RuntimeChoice(precision=self.config.precision).options(target)
        check_finetuning(self.config)
        self.search_options  # noqa: B018
        if self.config.supernet and self.config.options:
            raise UserError("Tuned options are for training a supernet; give either them or a trained supernet.")
        if self.supernet_directory != self.directory / "supernet":
            self.supernet  # noqa: B018
        else:
            self.training_config  # noqa: B018
        if self.config.table:
            load_table(Path(self.config.table))
        self.constraints  # noqa: B018
        return target

    # --- what the steps share -----------------------------------------------------------------------------

    @cached_property
    def search_options(self) -> SearchOptions:
        """How candidates are proposed."""
        config = self.config
        return SearchOptions(strategy=config.strategy, evaluations=config.evaluations, seed=config.seed)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set."""
        root = Path(self.config.data_root) if self.config.data_root else None
        return load_dataset(self.config.dataset, root=root, download=self.config.download, progress=self.progress)

    @cached_property
    def space(self) -> Space:
        """The space, with the data set's number of classes."""
        return get_space(self.config.space, self.dataset.num_classes)

    @cached_property
    def supernet_directory(self) -> Path:
        """Where the weights are, or will be when they are trained."""
        if self.config.supernet:
            return Path(self.config.supernet)
        if self.config.options:
            return self.directory / "supernet"
        return find_supernet(self.space.name, self.dataset) or self.directory / "supernet"

    @cached_property
    def training_config(self) -> TrainingConfig:
        """How a supernet is trained, if one is."""
        options = Path(self.config.options) if self.config.options else None
        settings = read_settings(None, options) | {"epochs": self.config.train_epochs, "seed": self.config.seed}
        return training_config(settings, options)

    @cached_property
    def supernet(self) -> ElasticNetwork:
        """The trained weights."""
        return open_supernet(self.supernet_directory, self.space, self.dataset)

    @cached_property
    def options(self) -> CompileOptions:
        """How models are compiled and run."""
        asked = RuntimeChoice(precision=self.config.precision).options(self.device.target)
        return informed(asked, self.device.fingerprint(asked))

    @cached_property
    def arrival(self) -> Arrival:
        """How runs follow each other."""
        return Arrival(self.config.fps)

    @cached_property
    def latency(self) -> LoadedTable:
        """The table and the model fitted to it."""
        path = Path(self.config.table) if self.config.table else self.steps.output("profile", ".json")
        return open_table(
            self.device,
            self.space,
            path,
            statistic=self.config.statistic,
            arrival=self.arrival,
            allow_stale=self.config.allow_stale,
            options=self.options,
        )

    @cached_property
    def budget(self) -> Budget:
        """The latency budget."""
        limit = read_model(self.directory / "budget.json", BudgetChoice, what="budget").limit_ms
        return Budget.on(
            self.device.target,
            limit,
            statistic=self.config.statistic,
            confidence=self.config.confidence,
            arrival=self.arrival,
        )

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """Further budgets; only predictions are known of them."""
        config = self.config
        return open_constraints(
            config.budgets, self.space, Path(config.tables), statistic=config.statistic, confidence=config.confidence
        )

    @property
    def _protocol(self) -> MeasureOptions:
        """How networks are benchmarked: as the budget's runs arrive."""
        return replace(promise_protocol(self.device, self.space), fps=self.config.fps)

    @cached_property
    def search_result(self) -> SearchResult:
        """What the search found; the strategy is replayed from the record, and nothing is evaluated."""
        return self._run_search(None)

    # --- steps --------------------------------------------------------------------------------------------

    def _provide_supernet(self) -> None:
        directory = self.supernet_directory
        if directory != self.directory / "supernet":
            return
        config = self.training_config
        self.steps.do(
            "supernet",
            {"space": self.space.name, "dataset": self.dataset.fingerprint, "config": config.model_dump(mode="json")},
            lambda: [directory / "weights.safetensors", directory / "record.json"],
            lambda: train_supernet(directory, self.space.name, self.dataset, config, self.progress),
        )

    def _provide_table(self) -> None:
        if self.config.table:
            self.latency  # noqa: B018 - a wrong table is refused now
            return
        written: list[Path] = []

        def measure() -> None:
            options = ProfileOptions(
                minutes=self.config.minutes,
                seed=self.config.seed,
                statistic=self.config.statistic,
                fps=self.config.fps,
                compile=self.options,
            )
            root = self.directory / "latency_tables"
            written.append(profile(self.device, self.space, root, options, self.progress)[1])

        inputs = {
            "space": self.space.name,
            "classes": self.space.num_classes,
            "minutes": self.config.minutes,
            "seed": self.config.seed,
            "device": self.device.fingerprint(self.options).identity8,
            **self._precise,
            **self._limited,
        }
        self.steps.do("profile", inputs, lambda: written, measure)

    def _choose_budget(self) -> None:
        path = self.directory / "budget.json"

        def choose() -> None:
            if self.config.budget_ms is not None:
                choice = BudgetChoice(limit_ms=self.config.budget_ms, source="given")
            else:
                genomes = self.space.sample(np.random.default_rng(self.config.seed), BUDGET_SAMPLE)
                median = float(np.median(self.latency.model.predict(genomes)[0]))
                source = f"median prediction for {BUDGET_SAMPLE} random architectures"
                choice = BudgetChoice(limit_ms=float(f"{median:.3g}"), source=source)
            write_json(path, choice)

        inputs = {
            "budget_ms": self.config.budget_ms,
            "table": sha256_of(self.latency.path),
            "seed": self.config.seed,
            **self._limited,
        }
        self.steps.do("budget", inputs, lambda: [path], choose)

    @property
    def _limited(self) -> dict[str, object]:
        """What the budget limits."""
        return {"statistic": self.config.statistic, "fps": self.config.fps, "gated": self.device.target.shared}

    @cached_property
    def search_directory(self) -> Path:
        """Of the search with these inputs; another budget or table has another."""
        digest = hashlib.sha256(json.dumps(self._search_inputs, sort_keys=True).encode()).hexdigest()
        return self.directory / "search" / digest[:8]

    def _search(self) -> None:
        directory = self.search_directory

        def search() -> None:
            self.search_result = self._run_search(self._service())

        self.steps.do(
            "search",
            self._search_inputs,
            lambda: [directory / "search.json", directory / "evaluations.jsonl"],
            search,
        )

    @property
    def _search_inputs(self) -> dict[str, object]:
        return {
            "table": sha256_of(self.latency.path),
            "weights": sha256_of(self.supernet_directory / "weights.safetensors"),
            "dataset": self.dataset.fingerprint,
            "budget_ms": self.budget.limit,
            "confidence": self.config.confidence,
            "strategy": self.config.strategy,
            "evaluations": self.config.evaluations,
            "seed": self.config.seed,
            "threads": self.config.threads,
            "others": [[repr(c.budget), predictor_digest(self.space, c.predictor)] for c in self.constraints],
            **self._precise,
            **self._limited,
        }

    @property
    def _precise(self) -> dict[str, object]:
        """What is other than in FP32; nothing in FP32."""
        return self._converted(self.options.precision)

    def _converted(self, precision: str) -> dict[str, object]:
        """What a network's form in a precision depends on; nothing in FP32."""
        if precision == "fp32":
            return {}
        return {"precision": precision, "remainder": self.options.remainder, "calibration": CALIBRATION}

    @cached_property
    def _subnets(self) -> SubnetEvaluator:
        return SubnetEvaluator(self.supernet, self.dataset, threads=self.config.threads)

    @cached_property
    def _evaluator(self) -> SubnetEvaluator | PrecisionEvaluator:
        return evaluator_in((self.options.precision,), self._subnets, self.options.remainder)

    @property
    def _refinement_directory(self) -> Path:
        return self.search_directory / "refined"

    def refined(self) -> list[Evaluation]:
        """What was evaluated once the finalists' measurements were known, counted on from the search's evaluations."""
        before = len(self.search_result.evaluations)
        found = read_evaluations(self._refinement_directory, self.space)
        return [each.model_copy(update={"index": before + each.index, "origin": "refinement"}) for each in found]

    def _refine(self, measured: Sequence[Finalist]) -> list[ExportedCandidate]:
        """Further candidates, by what the finalists were measured at."""
        known = self.search_result.evaluations
        refinement = Refinement(
            self.space,
            self.latency.model,
            self.budget,
            self._evaluator,
            known,
            self._refinement_directory,
            self.config.seed,
            self.progress,
            self.constraints,
        )
        return [self._candidate(evaluation) for evaluation in refinement.search(measured)]

    def _service(self) -> Service | None:
        """Who evaluates candidates in place of this process."""
        config = self.config
        machines = Path(config.machines) if config.machines else None
        root = Path(config.data_root) if config.data_root else None
        service = subnet_service(config.workers, machines, self.supernet_directory, config.dataset, root, self._subnets)
        return service_in((self.options.precision,), self.options.remainder, self._evaluator, service)

    def _run_search(self, service: Service | None) -> SearchResult:
        return run_search(
            self.space,
            self.latency.model,
            self.budget,
            self._evaluator,
            self.search_directory,
            self.search_options,
            self.progress,
            measure_fastest=lambda architecture: measure_architecture(
                self.device, self.space, architecture, self.budget, self.options
            ),
            others=self.constraints,
            service=service,
        )

    def _choose_winner(self) -> None:
        finalists_path, winner_path = self.directory / "finalists.json", self.directory / "winner.json"
        directory = self.directory / "finalists"

        def choose() -> None:
            ranked = list(self.search_result.best_first())
            choice = choose_and_promise(
                self.device,
                self._groups(ranked),
                self.budget,
                directory=directory,
                builds=self.config.builds,
                refine=self._refine,
                compile_options=self.options,
                measure_options=promise_protocol(self.device, self.space),
                progress=self.progress,
            )
            if choice.promised is None:
                forget_measurements(directory)
                shutil.rmtree(self._refinement_directory, ignore_errors=True)
                raise InfeasibleBudgetError(
                    f"None of the {len(ranked)} evaluated candidates keeps {self.budget} on {self.config.target} as "
                    "measured; raise the budget, profile for more --minutes, or run again when the machine is quieter."
                )
            write_json(finalists_path, finalists_document([*ranked, *self.refined()], choice.measured))
            write_json(winner_path, winner_document(choice))

        inputs = {**self._search_inputs, "finalists": self.config.finalists, "builds": self.config.builds}
        self.steps.do("finalists", inputs, lambda: [finalists_path, winner_path], choose)

    def _groups(self, ranked: Sequence[Evaluation]) -> Iterator[list[ExportedCandidate]]:
        """The candidates that are measured together, exported when it is their turn."""
        for start in range(0, len(ranked), self.config.finalists):
            yield [self._candidate(evaluation) for evaluation in ranked[start : start + self.config.finalists]]

    def _candidate(self, evaluation: Evaluation) -> ExportedCandidate:
        return ExportedCandidate(
            evaluation.architecture, self._exported(evaluation.architecture).read_bytes(), evaluation.top1
        )

    def model_of(self, name: str, resolution: int) -> Model:
        """The exported model that a benchmark is of: a subnet by its id, ``largest`` or the yardstick."""
        if name == YARDSTICK:
            specs = mobilenet_v3_small(resolution, self.dataset.num_classes)
            return Model(self._model_path(f"{YARDSTICK}-{resolution}"), tuple(specs))
        found = {e.architecture.id: e.architecture for e in (*self.search_result.evaluations, *self.refined())}
        architecture = self.space.largest if name == "largest" else found[Form.of(name).network]
        stem = architecture.id if name == "largest" else name
        return Model(self._model_path(stem), self.space.blocks(architecture))

    def _model_path(self, name: str) -> Path:
        return self.directory / "models" / f"{name}.onnx"

    def _exported(self, architecture: Architecture) -> Path:
        """The ONNX file of a subnet, made if it is not there."""
        return self._exported_in(architecture, self.options.precision, architecture.id)

    def _exported_in(self, architecture: Architecture, precision: str, name: str) -> Path:
        remainder = self.options.remainder
        return self._export(
            name,
            lambda path: export_subnet(self.supernet, architecture, self.dataset, path, precision, remainder),
            precision,
        )

    def _export(self, name: str, export: Callable[[Path], ExportedModel], precision: str) -> Path:
        path = self._model_path(name)
        record_path = path.with_suffix(".json")

        def write() -> None:
            model = export(path)
            assert model.parity is not None, "images were given"
            write_json(
                record_path,
                ExportRecord(sha256=model.sha256, opset=model.opset, ir_version=model.ir_version, parity=model.parity),
            )

        weights = sha256_of(self.supernet_directory / "weights.safetensors")
        inputs = {"weights": weights, "name": name, **self._converted(precision)}
        self.steps.do(f"export/{name}", inputs, lambda: [path, record_path], write)
        return path

    def _benchmark(self) -> None:
        """The winner's accuracy, memory and throughput, and those of the yardsticks."""
        winner_path = self.directory / "winner.json"
        written: list[Path] = []

        def measure() -> None:
            document = read_model(winner_path, WinnerDocument, what="winner")
            winner = Architecture.from_json(document.architecture)
            chosen = self._benchmarked(winner.id, self._exported(winner), winner.resolution)
            largest = self._benchmarked("largest", self._exported(self.space.largest), self.space.largest.resolution)
            precision, remainder = self.options.precision, self.options.remainder
            model = self._export(
                f"{YARDSTICK}-{winner.resolution}",
                lambda path: export_yardstick(winner.resolution, self.dataset, path, precision, remainder),
                precision,
            )
            untrained = "not trained: a yardstick of latency alone"
            yardstick = self._benchmarked(YARDSTICK, model, winner.resolution, untrained=untrained)
            written.extend([chosen, largest, yardstick])
            for other in self.other_precisions:
                name = str(Form(winner.id, other))
                exported = self._exported_in(winner, other, name)
                written.append(self._benchmarked(name, exported, winner.resolution, precision=other))

        self.steps.do("benchmark", {"winner": sha256_of(winner_path)}, lambda: written, measure)

    @property
    def other_precisions(self) -> tuple[str, ...]:
        """Those wider than the run's that the device computes in as well: the winner is shown beside itself in them."""
        names = list(BITS)
        wider = names[names.index(self.options.precision) + 1 :] if self.options.precision in BITS else []
        known = self.device.target.runtimes[self.options.runtime].precisions
        return tuple(name for name in wider if name in known)

    def _benchmarked(
        self, name: str, model: Path, resolution: int, untrained: str | None = None, precision: str | None = None
    ) -> Path:
        """The benchmark of a model, measured if it was not."""
        path = self.directory / "benchmarks" / f"{name}.json"
        options = replace(self.options, precision=precision or self.options.precision)

        def measure() -> None:
            result = benchmark(
                self.device,
                name,
                model,
                None if untrained else self.dataset,
                resolution,
                top1_missing=untrained,
                options=BenchmarkOptions(
                    compile=options, measure=replace(self._protocol, min_samples=P99_SAMPLES, max_seconds=1.0)
                ),
                progress=self.progress,
            )
            write_json(path, result)

        inputs = {"model": sha256_of(model), "device": self.device.fingerprint(options).identity8, **self._limited}
        self.steps.do(f"benchmark/{name}", inputs, lambda: [path], measure)
        return path

    def _finetune(self) -> None:
        """The winner trained further alone, and pruned, with a promise of its own."""
        if not self.config.finetune_epochs:
            return
        tuning = fine_tuning_of(self)
        inputs = {
            "winner": sha256_of(self.directory / "winner.json"),
            "weights": sha256_of(self.supernet_directory / "weights.safetensors"),
            "training": tuning.config.model_dump(mode="json"),
            "prune": self.config.prune,
            "builds": self.config.builds,
            "device": self.device.fingerprint(self.options).identity8,
            **self._precise,
            **self._limited,
        }
        self.steps.do("finetuning", inputs, lambda: tuning.outputs, tuning.execute)

    def _report(self) -> Summary:
        data_path, page_path = self.directory / "report.json", self.directory / "report.html"
        summary_path = self.directory / "summary.json"

        def write() -> None:
            data = assemble(self)
            write_json(data_path, data)
            write_report(data, page_path)
            write_json(summary_path, summarise(self, page_path))

        inputs = {"files": self.steps.outputs(but="report"), "command": command_line("", self.config)}
        self.steps.do("report", inputs, lambda: [data_path, page_path, summary_path], write)
        return read_model(summary_path, Summary, what="summary")
