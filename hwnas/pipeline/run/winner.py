"""The step that measures the best candidates, and promises the latency of the one that keeps the budget."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence

from hwnas import report
from hwnas.errors import InfeasibleBudgetError
from hwnas.files import write_json
from hwnas.pipeline.documents import FinalistsDocument, WinnerDocument
from hwnas.pipeline.latency import promise_protocol
from hwnas.pipeline.run.measurements import measurement
from hwnas.pipeline.run.models import subnet_model
from hwnas.pipeline.run.run import Run
from hwnas.pipeline.run.search import RunSearch
from hwnas.search import Choice, Evaluation, ExportedCandidate, Finalist, choose_and_promise, forget_measurements

FINALISTS_FILE = "finalists.json"


def choose_winner(run: Run, search: RunSearch) -> None:
    """Measure candidates, the most accurate first, until one keeps the budget twice.

    Raises:
        InfeasibleBudgetError: none does.
    """
    config, directory = run.config, run.directory / "finalists"
    finalists_path = run.directory / FINALISTS_FILE

    def choose() -> None:
        ranked = list(search.result.best_first())
        choice = choose_and_promise(
            run.device,
            _groups(run, ranked),
            run.budget,
            directory=directory,
            builds=config.builds,
            refine=lambda measured: [_candidate(run, evaluation) for evaluation in search.refine(measured)],
            compile_options=run.options,
            measure_options=promise_protocol(run.device, run.space),
            progress=run.progress,
        )
        if choice.promised is None:
            forget_measurements(directory)
            shutil.rmtree(search.refinement_directory, ignore_errors=True)
            raise InfeasibleBudgetError(
                f"None of the {len(ranked)} evaluated candidates keeps {run.budget} on {config.target} as "
                "measured; raise the budget, profile for more --minutes, or run again when the machine is quieter."
            )
        write_json(finalists_path, _finalists_document([*ranked, *search.refined()], choice.measured))
        write_json(run.winner_path, _winner_document(choice))

    inputs = {**search.inputs, "finalists": config.finalists, "builds": config.builds}
    run.steps.do("finalists", inputs, lambda: [finalists_path, run.winner_path], choose)


def _groups(run: Run, ranked: Sequence[Evaluation]) -> Iterator[list[ExportedCandidate]]:
    """The candidates that are measured together, exported when it is their turn."""
    for start in range(0, len(ranked), run.config.finalists):
        yield [_candidate(run, evaluation) for evaluation in ranked[start : start + run.config.finalists]]


def _candidate(run: Run, evaluation: Evaluation) -> ExportedCandidate:
    architecture = evaluation.architecture
    return ExportedCandidate(architecture, subnet_model(run, architecture).read_bytes(), evaluation.top1)


def _finalists_document(evaluations: Sequence[Evaluation], measured: Sequence[Finalist]) -> FinalistsDocument:
    """The finalists with what was foretold of them, the most accurate first, the faster of equals first."""
    foretold = {evaluation.architecture: evaluation for evaluation in evaluations}
    found = sorted(measured, key=lambda f: (-f.top1, math.inf if f.figure_ms is None else f.figure_ms))
    return FinalistsDocument(
        finalists=tuple(_finalist(foretold[finalist.architecture], finalist) for finalist in found),
        architectures={finalist.architecture.id: finalist.architecture.to_json() for finalist in found},
    )


def _finalist(evaluation: Evaluation, finalist: Finalist) -> report.Finalist:
    return report.Finalist(
        id=evaluation.architecture.id,
        top1=evaluation.top1,
        predicted_ms=evaluation.predicted_ms,
        std_ms=evaluation.std_ms,
        measured=measurement(finalist),
        keeps_budget=finalist.keeps,
    )


def _winner_document(choice: Choice) -> WinnerDocument:
    """The finalist that was chosen, and what is promised of it."""
    promised = choice.promised
    assert promised is not None, "a candidate kept the budget twice"
    assert promised.figure_ms is not None, "it kept the budget by this figure"
    return WinnerDocument(
        id=promised.architecture.id,
        architecture=promised.architecture.to_json(),
        promise=measurement(promised),
        promised_ms=promised.figure_ms,
        broke_budget=tuple(finalist.architecture.id for finalist in choice.broke),
    )
