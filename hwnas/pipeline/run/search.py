"""The search of a run, and the further one by what the finalists are measured at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from hwnas.files import sha256_of
from hwnas.pipeline.latency import measure_architecture
from hwnas.pipeline.precision import PrecisionEvaluator, evaluator_in, service_in
from hwnas.pipeline.run.run import Run
from hwnas.search import Evaluation, Finalist, Refinement, SearchResult, SubnetEvaluator, run_search
from hwnas.search.record import read_evaluations
from hwnas.search.search import predictor_digest
from hwnas.search.service import Service, subnet_service


class RunSearch:
    """What is searched in a run that has its supernet, table and budget."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def inputs(self) -> dict[str, object]:
        """What the result depends on."""
        run, config = self.run, self.run.config
        return {
            "table": sha256_of(run.latency.path),
            "weights": sha256_of(run.weights_path),
            "dataset": run.dataset.fingerprint,
            "budget_ms": run.budget.limit,
            "confidence": config.confidence,
            "strategy": config.strategy,
            "evaluations": config.evaluations,
            "seed": config.seed,
            "threads": config.threads,
            "others": [[repr(c.budget), predictor_digest(run.space, c.predictor)] for c in run.constraints],
            **run.precise,
            **run.limited,
        }

    @cached_property
    def directory(self) -> Path:
        """Of the search with these inputs; another budget or table has another."""
        digest = hashlib.sha256(json.dumps(self.inputs, sort_keys=True).encode()).hexdigest()
        return self.run.directory / "search" / digest[:8]

    @property
    def refinement_directory(self) -> Path:
        """Of the further search."""
        return self.directory / "refined"

    def execute(self) -> None:
        """The step."""

        def search() -> None:
            self.result = self._search(self._service())

        self.run.steps.do(
            "search",
            self.inputs,
            lambda: [self.directory / "search.json", self.directory / "evaluations.jsonl"],
            search,
        )

    @cached_property
    def result(self) -> SearchResult:
        """What the search found; the strategy is replayed from the record, and nothing is evaluated."""
        return self._search(None)

    def refine(self, measured: Sequence[Finalist]) -> tuple[Evaluation, ...]:
        """Further candidates, by what the finalists were measured at."""
        run = self.run
        refinement = Refinement(
            run.space,
            run.latency.model,
            run.budget,
            self._evaluator,
            self.result.evaluations,
            self.refinement_directory,
            run.config.seed,
            run.progress,
            run.constraints,
        )
        return refinement.search(measured)

    def refined(self) -> list[Evaluation]:
        """What was evaluated once the finalists' measurements were known, counted on from the search's evaluations."""
        before = len(self.result.evaluations)
        found = read_evaluations(self.refinement_directory, self.run.space)
        return [each.model_copy(update={"index": before + each.index, "origin": "refinement"}) for each in found]

    @cached_property
    def _subnets(self) -> SubnetEvaluator:
        return SubnetEvaluator(self.run.supernet, self.run.dataset, threads=self.run.config.threads)

    @cached_property
    def _evaluator(self) -> SubnetEvaluator | PrecisionEvaluator:
        options = self.run.options
        return evaluator_in((options.precision,), self._subnets, options.remainder)

    def _service(self) -> Service | None:
        """Who evaluates candidates in place of this process."""
        run, config = self.run, self.run.config
        machines = Path(config.machines) if config.machines else None
        root = Path(config.data_root) if config.data_root else None
        service = subnet_service(config.workers, machines, run.supernet_directory, config.dataset, root, self._subnets)
        return service_in((run.options.precision,), run.options.remainder, self._evaluator, service)

    def _search(self, service: Service | None) -> SearchResult:
        run = self.run
        return run_search(
            run.space,
            run.latency.model,
            run.budget,
            self._evaluator,
            self.directory,
            run.search_options,
            run.progress,
            measure_fastest=lambda architecture: measure_architecture(
                run.device, run.space, architecture, run.budget, run.options
            ),
            others=run.constraints,
            service=service,
        )
