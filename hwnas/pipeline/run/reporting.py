"""The step that tells what came of a run: the page, its data, and the summary."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from hwnas import __version__, report
from hwnas.files import read_model, write_json
from hwnas.pipeline.config import command_line
from hwnas.pipeline.documents import Summary, YardstickSummary
from hwnas.pipeline.run.compared import benchmark_of, compared_network, title_of, yardsticks
from hwnas.pipeline.run.explanation import explained, far_from_best
from hwnas.pipeline.run.finetuning import finetuned_networks
from hwnas.pipeline.run.latency_quality import latency_quality
from hwnas.pipeline.run.results import Results
from hwnas.pipeline.run.run import Run
from hwnas.pipeline.run.search import RunSearch
from hwnas.report import write_report
from hwnas.search import Budget
from hwnas.search.pareto import pareto_front
from hwnas.search.record import Estimate

LIBRARIES = ("torch", "onnx", "onnxruntime", "nni", "numpy")


def report_results(run: Run, search: RunSearch) -> Summary:
    """Write page, data and summary of a run whose other steps are done; returns the summary."""
    data_path, page_path = run.directory / "report.json", run.directory / "report.html"
    summary_path = run.directory / "summary.json"

    def write() -> None:
        results = Results(run, search)
        data = _assemble(run, results)
        write_json(data_path, data)
        write_report(data, page_path)
        write_json(summary_path, _summarise(run, results, page_path))

    inputs = {"files": run.steps.outputs(but="report"), "command": command_line("", run.config)}
    run.steps.do("report", inputs, lambda: [data_path, page_path, summary_path], write)
    return read_model(summary_path, Summary, what="summary")


def _assemble(run: Run, results: Results) -> report.ReportData:
    """Everything that the page of a finished run shows."""
    latency = run.latency
    options = run.options
    fingerprint = run.device.fingerprint(options)
    return report.ReportData(
        run=run.directory.name,
        created=datetime.now(UTC),
        command=command_line(run.directory.name, run.config),
        versions={"hwnas": __version__, "python": platform.python_version()}
        | {library: version(library) for library in _libraries(run)},
        warnings=_warnings(run),
        asked=report.Asked(
            target=run.config.target,
            space=run.space.name,
            dataset=run.dataset.name,
            runtime=options.runtime,
            mode=latency.table.mode,
            precision=options.precision,
            batch=latency.table.batch,
            threads=options.threads,
            budget_ms=run.budget_choice.limit_ms,
            others=_others(run, results),
            statistic=run.budget.statistic,
            arrival=str(run.budget.arrival),
            basis=_basis(run),
            confidence=run.config.confidence,
            strategy=run.config.strategy,
            seed=run.config.seed,
            evaluations=run.config.evaluations,
            metric=run.space.metric,
        ),
        winner=_winner(run, results),
        yardsticks=tuple(compared_network(run, name) for name in yardsticks(run)),
        finetuned=finetuned_networks(results.finetuned) if results.finetuned else (),
        finetuning_remarks=tuple(results.finetuned.remarks()) if results.finetuned else (),
        search=_search(results),
        explained=explained(run, results),
        far_from_best=far_from_best(run, results),
        latency_model=latency_quality(run),
        table=report.Table(
            name=latency.path.name,
            kind=latency.table.kind,
            created=datetime.combine(latency.table.created, datetime.min.time(), UTC),
            protocol=latency.table.protocol,
            blocks=len(run.space.distinct_blocks),
            blocks_measured=len(latency.table.blocks),
            stale=latency.stale,
            absent=latency.table.hygiene.absent if latency.table.hygiene else (),
        ),
        device=report.DeviceFound(
            description=run.device.target.description,
            identity8=fingerprint.identity8,
            identity=fingerprint.identity,
            context=fingerprint.context,
        ),
        steps=tuple(
            report.Step(name=name, seconds=seconds, note="done before" if name in run.steps.skipped else "")
            for name, seconds in run.steps.seconds().items()
        ),
    )


def _libraries(run: Run) -> tuple[str, ...]:
    """What the figures were computed with."""
    return LIBRARIES if run.space.task == "classification" else (*LIBRARIES, "pycocotools")


def _others(run: Run, results: Results) -> tuple[report.OtherBudgetKept, ...]:
    """The further budgets, and what is predicted of the winner."""
    estimates = results.evaluation.others
    return tuple(
        report.OtherBudgetKept(
            place=constraint.budget.place,
            limit=str(constraint.budget),
            predicted=_estimate(constraint.budget, estimate),
        )
        for constraint, estimate in zip(run.constraints, estimates, strict=True)
    )


def _estimate(budget: Budget, estimate: Estimate) -> str:
    """What is predicted, and how sure that is: ``17.2 ms ± 0.4 ms by prediction, not measured there``."""
    if budget.quantity == "latency_ms":
        return f"{budget.amount(estimate.mean)} ± {budget.amount(estimate.std)} by prediction, not measured there"
    return f"{budget.amount(estimate.mean)}, exactly"


def _summarise(run: Run, results: Results, page: Path) -> Summary:
    """The figures of a finished run."""
    evaluation, promise = results.evaluation, run.winner.promise
    basis = promise.latency(_basis(run))
    top1 = benchmark_of(run, run.winner.id).top1
    assert basis is not None, "the winner was chosen by it"
    assert top1 is not None, "it was measured on the test split"
    compared = [benchmark_of(run, name) for name in yardsticks(run)]
    return Summary(
        run=run.directory.name,
        target=run.config.target,
        space=run.space.name,
        dataset=run.dataset.name,
        budget_ms=run.budget_choice.limit_ms,
        budget_source=run.budget_choice.source,
        statistic=run.budget.statistic,
        arrival=str(run.budget.arrival),
        basis=_basis(run),
        architecture=run.winner.id,
        predicted_ms=evaluation.predicted_ms,
        predicted_std_ms=evaluation.std_ms,
        promised_ms=run.winner.promised_ms,
        promised_interval_ms=basis.interval_ms,
        promise_builds=promise.builds,
        measured_p50_ms=promise.gated.p50_ms if promise.gated else None,
        measured_p99_ms=promise.gated.p99_ms if promise.gated else None,
        ungated_p50_ms=promise.ungated.p50_ms if promise.ungated else None,
        ungated_p99_ms=promise.ungated.p99_ms if promise.ungated else None,
        top1=top1,
        top1_validation=evaluation.top1,
        others=_others(run, results),
        finetuned=results.finetuned,
        yardsticks=tuple(
            YardstickSummary(
                name=title_of(yardstick.name),
                measured_p50_ms=yardstick.gated.p50_ms,
                measured_p99_ms=yardstick.gated.p99_ms,
                ungated_p50_ms=yardstick.ungated.p50_ms,
                ungated_p99_ms=yardstick.ungated.p99_ms,
                top1=yardstick.top1,
            )
            for yardstick in compared
        ),
        metric=run.space.metric,
        evaluations=len(results.evaluations),
        seconds_per_step=run.steps.seconds(),
        report=str(page),
        emulated=run.latency.table.kind == "emulated",
    )


def _warnings(run: Run) -> tuple[str, ...]:
    warnings = []
    if run.winner.broke_budget:
        names = ", ".join(run.winner.broke_budget)
        warnings.append(f"More accurate finalists kept the budget once, but not surely when measured again: {names}.")
    if run.latency.table.missing.blocks:
        warnings.append(f"{run.latency.table.missing.blocks} blocks were not measured; their times are interpolated.")
    return tuple(warnings)


def _winner(run: Run, results: Results) -> report.Winner:
    architecture, evaluation = run.winner_architecture, results.evaluation
    attribution = run.latency.model.blocks_ms(architecture)
    network = compared_network(run, architecture.id).model_copy(
        update={
            "measured": run.winner.promise,
            "predicted_ms": evaluation.predicted_ms,
            "predicted_std_ms": evaluation.std_ms,
            "top1_validation": evaluation.top1,
        }
    )
    return report.Winner(
        id=architecture.id,
        choices=dict(architecture.choices),
        network=network,
        blocks=tuple(report.BlockTime(label=cost.slot, spec=cost.block, ms=cost.ms) for cost in attribution.blocks),
        overhead_ms=attribution.overhead_ms,
    )


def _search(results: Results) -> report.Search:
    return report.Search(
        candidates=tuple(
            report.Candidate(
                index=e.index,
                id=e.architecture.id,
                top1=e.top1,
                predicted_ms=e.predicted_ms,
                std_ms=e.std_ms,
                origin=e.origin,
            )
            for e in results.evaluations
        ),
        refined=len(results.refined),
        front=tuple(e.architecture.id for e in pareto_front(results.evaluations)),
        finalists=results.finalists.finalists,
        predictor_kendall_tau=results.search.cross_validated_tau,
    )


def _basis(run: Run) -> Literal["gated", "ungated"]:
    """The samples that the promise is kept on."""
    return "gated" if run.budget.gated else "ungated"
