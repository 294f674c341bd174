"""From the files of a run to the data of its report and its summary."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hwnas import report
from hwnas.devices import Statistics
from hwnas.export import BenchmarkResult, Timing
from hwnas.files import read_model, write_json
from hwnas.latency import Figures, LatencyTable, figures
from hwnas.latency.table import P50, Statistic, genomes_of, values_ms
from hwnas.pipeline.config import command_line
from hwnas.pipeline.documents import BudgetChoice, ExportRecord, FinalistsDocument, Summary, WinnerDocument
from hwnas.pipeline.documents import YardstickSummary as Yardstick
from hwnas.pipeline.forms import Form
from hwnas.pipeline.run_finetuning import finetuned, finetuned_networks
from hwnas.search import Budget, Choice, Evaluation, Finalist
from hwnas.search.bound import how_far_evaluated
from hwnas.search.explain import ChangedBudget, Move, explain_evaluated
from hwnas.search.pareto import pareto_front
from hwnas.search.record import Estimate
from hwnas.search.screen import Screen
from hwnas.spaces import Architecture

if TYPE_CHECKING:
    from hwnas.pipeline.run import Run

LIBRARIES = ("torch", "onnx", "onnxruntime", "nni", "numpy")
NAMES = {"largest": "largest subnet", "mobilenet_v3_small": "MobileNetV3-Small"}


def finalists_document(evaluations: Sequence[Evaluation], measured: Sequence[Finalist]) -> FinalistsDocument:
    """The finalists with what was foretold of them, the most accurate first, the faster of equals first."""
    foretold = {evaluation.architecture: evaluation for evaluation in evaluations}
    found = sorted(measured, key=lambda f: (-f.top1, math.inf if f.figure_ms is None else f.figure_ms))
    return FinalistsDocument(
        finalists=tuple(_finalist(foretold[finalist.architecture], finalist) for finalist in found),
        architectures={finalist.architecture.id: finalist.architecture.to_json() for finalist in found},
    )


def winner_document(choice: Choice) -> WinnerDocument:
    """The finalist that was chosen, and what is promised of it."""
    promised = choice.promised
    assert promised is not None, "a candidate kept the budget twice"
    assert promised.figure_ms is not None, "it kept the budget by this figure"
    return WinnerDocument(
        id=promised.architecture.id,
        architecture=promised.architecture.to_json(),
        promise=_measurement(promised),
        promised_ms=promised.figure_ms,
        broke_budget=tuple(finalist.architecture.id for finalist in choice.broke),
    )


def assemble(run: Run) -> report.ReportData:
    """Everything that the page of a finished run shows."""
    documents = _Documents(run)
    latency = run.latency
    options = run.options
    fingerprint = run.device.fingerprint(options)
    return report.ReportData(
        run=run.directory.name,
        created=datetime.now(UTC),
        command=command_line(run.directory.name, run.config),
        versions={"hwnas": version("hwnas"), "python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
        warnings=_warnings(run, documents),
        asked=report.Asked(
            target=run.config.target,
            space=run.space.name,
            dataset=run.dataset.name,
            runtime=options.runtime,
            mode=latency.table.mode,
            precision=options.precision,
            batch=latency.table.batch,
            threads=options.threads,
            budget_ms=documents.budget.limit_ms,
            others=_others(run, documents),
            statistic=run.budget.statistic,
            arrival=str(run.budget.arrival),
            basis=_basis(run),
            confidence=run.config.confidence,
            strategy=run.config.strategy,
            seed=run.config.seed,
            evaluations=run.config.evaluations,
        ),
        winner=_winner(run, documents),
        yardsticks=tuple(_network(run, name) for name in _yardsticks(run, documents)),
        finetuned=finetuned_networks(run),
        search=_search(run, documents),
        explained=_explained(run, documents),
        far_from_best=_far_from_best(run, documents),
        latency_model=_quality(run),
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


def _others(run: Run, documents: _Documents) -> tuple[report.OtherBudgetKept, ...]:
    """The further budgets, and what is predicted of the winner."""
    estimates = documents.evaluation.others
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


def summarise(run: Run, page: Path) -> Summary:
    """The figures of a finished run."""
    documents = _Documents(run)
    evaluation, promise = documents.evaluation, documents.winner.promise
    basis = promise.latency(_basis(run))
    top1 = _benchmark_of(run, documents.winner.id).top1
    assert basis is not None, "the winner was chosen by it"
    assert top1 is not None, "it was measured on the test split"
    yardsticks = [_benchmark_of(run, name) for name in _yardsticks(run, documents)]
    return Summary(
        run=run.directory.name,
        target=run.config.target,
        space=run.space.name,
        dataset=run.dataset.name,
        budget_ms=documents.budget.limit_ms,
        budget_source=documents.budget.source,
        statistic=run.budget.statistic,
        arrival=str(run.budget.arrival),
        basis=_basis(run),
        architecture=documents.winner.id,
        predicted_ms=evaluation.predicted_ms,
        predicted_std_ms=evaluation.std_ms,
        promised_ms=documents.winner.promised_ms,
        promised_interval_ms=basis.interval_ms,
        promise_builds=promise.builds,
        measured_p50_ms=promise.gated.p50_ms if promise.gated else None,
        measured_p99_ms=promise.gated.p99_ms if promise.gated else None,
        ungated_p50_ms=promise.ungated.p50_ms if promise.ungated else None,
        ungated_p99_ms=promise.ungated.p99_ms if promise.ungated else None,
        top1=top1,
        top1_validation=evaluation.top1,
        others=_others(run, documents),
        finetuned=finetuned(run),
        yardsticks=tuple(
            Yardstick(
                name=_name(yardstick.name),
                measured_p50_ms=yardstick.gated.p50_ms,
                measured_p99_ms=yardstick.gated.p99_ms,
                ungated_p50_ms=yardstick.ungated.p50_ms,
                ungated_p99_ms=yardstick.ungated.p99_ms,
                top1=yardstick.top1,
            )
            for yardstick in yardsticks
        ),
        evaluations=len(run.search_result.evaluations) + len(run.refined()),
        seconds_per_step=run.steps.seconds(),
        report=str(page),
        emulated=run.latency.table.kind == "emulated",
    )


def _yardsticks(run: Run, documents: _Documents) -> list[str]:
    """What the winner is shown beside: itself in wider precisions, and other networks."""
    return [*(str(Form(documents.winner.id, precision)) for precision in run.other_precisions), *NAMES]


def _name(benchmark: str) -> str:
    """What a benchmarked network is called: ``chosen network in fp32``."""
    if benchmark in NAMES:
        return NAMES[benchmark]
    precision = Form.of(benchmark).precision
    return f"chosen network in {precision}" if precision else "chosen network"


def _explained(run: Run, documents: _Documents) -> report.Explained | None:
    """What the winner's choices buy and cost, by what the search learned; None where it evaluated one alone."""
    genome = run.space.encode([documents.architecture])
    screen = Screen(run.space, run.latency.model, run.budget, genome, run.constraints)
    found = explain_evaluated(screen, documents.evaluations, documents.architecture)
    if found is None:
        return None
    write_json(run.directory / "explanation.json", found)

    def alternative(move: Move) -> report.Alternative:
        return report.Alternative(change=str(move), top1=move.top1, latency_ms=move.latency_ms)

    def changed(at: ChangedBudget) -> report.AtAnotherBudget:
        moves = tuple(map(alternative, at.moves))
        return report.AtAnotherBudget(
            limit_ms=at.limit_ms, moves=moves, top1=at.top1, latency_ms=at.latency_ms, keeps=at.keeps
        )

    return report.Explained(
        top1=found.top1,
        top1_std=found.top1_std,
        choices=tuple(
            report.Worth(
                label=effect.label,
                value=effect.value,
                lower=alternative(effect.lower) if effect.lower else None,
                higher=alternative(effect.higher) if effect.higher else None,
            )
            for effect in found.choices
        ),
        grown=changed(found.grown),
        shrunk=changed(found.shrunk),
    )


def _far_from_best(run: Run, documents: _Documents) -> report.FarFromBest | None:
    """The winner beside the optimum of an additive fit; None where there is none."""
    genome = run.space.encode([documents.architecture])
    screen = Screen(run.space, run.latency.model, run.budget, genome, run.constraints)
    found = how_far_evaluated(screen, documents.evaluations, documents.architecture)
    if found is None or found.additive is None:
        return None
    write_json(run.directory / "distance.json", found)
    return report.FarFromBest(
        predicted=found.predicted,
        optimum=found.additive.value,
        optimum_predicted=found.additive.predicted,
        proved=found.additive.proved,
        r2=found.additive.r2,
        upper_bound=found.upper_bound,
    )


class _Documents:
    """The files of a finished run that both the report and the summary need."""

    def __init__(self, run: Run) -> None:
        self.budget = read_model(run.directory / "budget.json", BudgetChoice, what="budget")
        self.finalists = read_model(run.directory / "finalists.json", FinalistsDocument, what="finalists")
        self.winner = read_model(run.directory / "winner.json", WinnerDocument, what="winner")
        self.architecture = Architecture.from_json(self.winner.architecture)
        self.refined = run.refined()
        self.evaluations = (*run.search_result.evaluations, *self.refined)
        self.evaluation = next(e for e in self.evaluations if e.architecture.id == self.winner.id)


def _warnings(run: Run, documents: _Documents) -> tuple[str, ...]:
    warnings = []
    if documents.winner.broke_budget:
        names = ", ".join(documents.winner.broke_budget)
        warnings.append(f"More accurate finalists kept the budget once, but not surely when measured again: {names}.")
    if run.latency.table.missing.blocks:
        warnings.append(f"{run.latency.table.missing.blocks} blocks were not measured; their times are interpolated.")
    return tuple(warnings)


def _winner(run: Run, documents: _Documents) -> report.Winner:
    architecture, evaluation = documents.architecture, documents.evaluation
    attribution = run.latency.model.blocks_ms(architecture)
    network = _network(run, architecture.id).model_copy(
        update={
            "measured": documents.winner.promise,
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


def _search(run: Run, documents: _Documents) -> report.Search:
    result = run.search_result
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
            for e in documents.evaluations
        ),
        refined=len(documents.refined),
        front=tuple(e.architecture.id for e in pareto_front(documents.evaluations)),
        finalists=documents.finalists.finalists,
        predictor_kendall_tau=result.cross_validated_tau,
    )


def _quality(run: Run) -> report.LatencyModelQuality:
    """The latency model on the networks that it was not fitted to."""
    table, model = run.latency.table, run.latency.model
    statistic = Statistic(run.budget.statistic, run.budget.gated)
    entries = [entry for entry in table.with_role("validation") if entry.value_ms(statistic) is not None]
    if not entries:
        return report.LatencyModelQuality()
    measured_ms = values_ms(entries, statistic)
    mean, std = model.predict(genomes_of(run.space, entries))
    return report.LatencyModelQuality(
        held_out=tuple(
            report.HeldOutNetwork(
                id=entry.architecture.id,
                measured_ms=float(measured),
                predicted_ms=float(predicted),
                std_ms=float(spread),
            )
            for entry, measured, predicted, spread in zip(entries, measured_ms, mean, std, strict=True)
        ),
        **_all_figures(table, figures(measured_ms, mean, std) if statistic != P50 and len(entries) > 1 else None),
    )


def _all_figures(
    table: LatencyTable, other: Figures | None
) -> dict[str, report.LatencyFigures | tuple[report.LatencyFigures, ...] | None]:
    """The table's own figures, which are of the gated p50, or those of another statistic."""
    if other is not None:
        return {"figures": _figures("latency model", other), "baselines": ()}
    validation = table.validation
    if validation is None:
        return {"figures": None, "baselines": ()}
    baselines = tuple(_figures(name, found) for name, found in validation.baselines.items())
    return {"figures": _figures("latency model", validation), "baselines": baselines}


def _figures(predictor: str, found: Figures) -> report.LatencyFigures:
    return report.LatencyFigures(
        predictor=predictor.replace("_", " "),
        n=found.n,
        mape_percent=found.mape,
        within_5_percent=found.within_5pct,
        within_5_interval=found.within_5pct_interval,
        within_10_percent=found.within_10pct,
        within_10_interval=found.within_10pct_interval,
        kendall_tau=found.kendall_tau,
        spearman=found.spearman,
        rmse_ms=found.rmse_ms,
        coverage_95=found.coverage_95,
        coverage_95_interval=found.coverage_95_interval,
    )


def _finalist(evaluation: Evaluation, finalist: Finalist) -> report.Finalist:
    return report.Finalist(
        id=evaluation.architecture.id,
        top1=evaluation.top1,
        predicted_ms=evaluation.predicted_ms,
        std_ms=evaluation.std_ms,
        measured=_measurement(finalist),
        keeps_budget=finalist.keeps,
    )


def _measurement(finalist: Finalist) -> report.Measurement:
    gated, ungated = finalist.gated, finalist.ungated
    return report.Measurement(
        gated=_latency(gated.statistics, gated.interval_ms),
        ungated=_latency(ungated.statistics, ungated.interval_ms),
        builds=len(finalist.builds),
    )


def _basis(run: Run) -> Literal["gated", "ungated"]:
    """The samples that the promise is kept on."""
    return "gated" if run.budget.gated else "ungated"


def _benchmark_of(run: Run, name: str) -> BenchmarkResult:
    """A benchmark, judged by the fastest state of the device that this run has seen, as all that are compared are."""
    found = read_model(run.directory / "benchmarks" / f"{name}.json", BenchmarkResult, what="benchmark")
    fast_ms = run.device.fast_state_ms(found.measurements[0].protocol.canary)
    return found if fast_ms is None or found.fast_state_ms is None else found.judged(min(fast_ms, found.fast_state_ms))


def _network(run: Run, name: str) -> report.Network:
    """A benchmarked network as the report shows it."""
    bench = _benchmark_of(run, name)
    model = run.model_of(name, bench.resolution)
    specs = model.specs
    export = read_model(model.path.with_suffix(".json"), ExportRecord, what="export record")
    return report.Network(
        name=_name(name),
        resolution=bench.resolution,
        measured=report.Measurement(gated=_latency(bench.gated), ungated=_latency(bench.ungated)),
        top1_test=bench.top1,
        classification=bench.classification,
        throughput=bench.gated.images_per_s,
        macs=sum(spec.macs for spec in specs),
        params=sum(spec.params for spec in specs),
        onnx_bytes=bench.onnx_bytes,
        engine_bytes=bench.engine_bytes,
        peak_memory_mib=bench.peak_memory_mib,
        build_seconds=bench.build_s,
        parity=export.parity,
        note=bench.top1_missing or "",
    )


def _latency(found: Statistics | Timing, interval_ms: tuple[float, float] | None = None) -> report.Latency | None:
    if found.p50_ms is None:
        return None
    return report.Latency(
        p50_ms=found.p50_ms, p90_ms=found.p90_ms, p99_ms=found.p99_ms, samples=found.n, interval_ms=interval_ms
    )
