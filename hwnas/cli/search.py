"""``hwnas search``: candidates under a latency budget, from a table and a supernet that are there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, err, milliseconds, out, percent, print_json, print_table
from hwnas.search.options import DEFAULT_STRATEGY, STRATEGIES

if TYPE_CHECKING:
    from hwnas.pipeline.latency import LoadedTable
    from hwnas.search import Evaluation, SearchResult
    from hwnas.search.bound import AdditiveOptimum, Distance
    from hwnas.search.constraints import Constraint
    from hwnas.search.explain import ChangedBudget, Explanation
    from hwnas.search.options import Objective


@command
def search(
    budget: Annotated[
        list[str], typer.Option(help="Limit on the latency, ms; again for more: macs=3M, model_mb=1, note10=20 (ms).")
    ],
    directory: Annotated[Path, typer.Option("--out", help="Of the search; the same one goes on where it stopped.")],
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file.")] = "host-cpu",
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")] = "mobilenet_v3/small",
    data: Annotated[str, typer.Option(help="Data set whose validation split scores candidates.")] = "fashion-mnist",
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    supernet: Annotated[Path | None, typer.Option(help="Directory of trained weights; default: those shipped.")] = None,
    table: Annotated[Path | None, typer.Option(help="Latency table; default: this device's below --tables.")] = None,
    tables: Annotated[Path, typer.Option(help="Directory of all latency tables.")] = Path("latency_tables"),
    precision: Annotated[
        str | None,
        typer.Option(help="Of the networks; of several, such as fp32,int8, each chooses. Default: the target's."),
    ] = None,
    statistic: Annotated[str, typer.Option(help="What the budget limits of the latency: p50 or p99.")] = "p50",
    fps: Annotated[
        float, typer.Option(min=0, help="Frames a second that arrive; default, 0: runs back to back.")
    ] = 0.0,
    confidence: Annotated[float, typer.Option(help="With which a prediction must keep the budget.")] = 0.95,
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = DEFAULT_STRATEGY,
    objective: Annotated[
        str, typer.Option(help="accuracy: the most accurate within the budgets; front: the best for less of them, too.")
    ] = "accuracy",
    evaluations: Annotated[int, typer.Option(help="Candidates to evaluate.")] = 48,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads that evaluate candidates.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that evaluate at once; 0: this one alone.")] = 0,
    machines: Annotated[Path | None, typer.Option(help="YAML list of machines with workers.")] = None,
    allow_stale: Annotated[bool, typer.Option(help="Use a table measured on another device.")] = False,
    json: JsonOption = False,
) -> None:
    """Search for accurate architectures that keep a latency budget by the table's model; NNI drives."""
    from hwnas.cli.checks import check_budgets, check_objective, check_precisions, check_statistic

    written = check_budgets(budget, confidence)
    if written.latency_ms is None:
        raise typer.BadParameter("give the latency limit on the target, ms, as well", param_hint="--budget")
    percentile = check_statistic(statistic)
    sought = check_objective(objective)
    precisions = check_precisions(precision)

    from hwnas.data.tasks import load_for
    from hwnas.devices import Arrival
    from hwnas.pipeline.budgets import open_constraints
    from hwnas.pipeline.networks import open_supernet
    from hwnas.pipeline.precision import evaluator_in, service_in
    from hwnas.pipeline.searched import Limit, limited
    from hwnas.pipeline.training import require_supernet
    from hwnas.search import SearchOptions, SubnetEvaluator, run_search
    from hwnas.search.bound import how_far_evaluated
    from hwnas.search.explain import explain_evaluated
    from hwnas.search.screen import Screen
    from hwnas.search.service import subnet_service
    from hwnas.spaces import get_space

    dataset = load_for(get_space(space), data, root=data_root)
    base = get_space(space, dataset.num_classes)
    options = SearchOptions(strategy=strategy, objective=sought, evaluations=evaluations, seed=seed)
    weights = supernet or require_supernet(space, dataset)
    evaluator = SubnetEvaluator(open_supernet(weights, base, dataset), dataset, threads=threads)
    with ExitStack() as stack:
        asked_limit = Limit(written.latency_ms, percentile, confidence, Arrival(fps))
        found = limited(stack, target, base, asked_limit, precisions, tables, table, allow_stale=allow_stale)
        latency, limit = found.latency, found.budget
        searched, asked = latency.space, precisions or (latency.options.precision,)
        scored = evaluator_in(asked, evaluator, latency.options.remainder)
        print_doubts(latency.tables)
        others = open_constraints(written.others, searched, tables, statistic=percentile, confidence=confidence)
        progress = stack.enter_context(bars())
        result = run_search(
            searched,
            latency.predictor,
            limit,
            scored,
            directory,
            options,
            progress,
            measure_fastest=found.measure,
            others=others,
            service=service_in(
                asked,
                latency.options.remainder,
                scored,
                subnet_service(workers, machines, weights, data, data_root, evaluator),
            ),
        )
    best = result.finalists(1)[0].architecture
    screen = Screen(searched, latency.predictor, limit, searched.encode([best]), others)
    explanation = explain_evaluated(screen, result.evaluations, best)
    distance = how_far_evaluated(screen, result.evaluations, best)
    if json:
        print_json(
            {
                "tables": [str(loaded.path) for loaded in latency.tables],
                "stale": any(loaded.stale for loaded in latency.tables),
                "kind": latency.tables[0].table.kind,
                "relative": any(loaded.table.relative for loaded in latency.tables),
                "precisions": list(asked),
                "stopped": result.stopped,
                "kendall_tau": result.cross_validated_tau,
                "evaluations": [e.model_dump(mode="json", by_alias=True) for e in result.evaluations],
                "front": [e.architecture.id for e in result.front],
                "explanation": explanation and explanation.model_dump(mode="json", by_alias=True),
                "distance": distance and distance.model_dump(mode="json", by_alias=True),
            }
        )
    else:
        print_result(result, sought, others, explanation, distance, base.metric)


def print_doubts(tables: Sequence[LoadedTable]) -> None:
    """Why a budget over the tables of a search is no promise."""
    from hwnas.cli.labels import EMULATED, RELATIVE, STALE

    doubts = [EMULATED] if any(loaded.table.kind == "emulated" for loaded in tables) else []
    doubts += [STALE.format(path=loaded.path) for loaded in tables if loaded.stale]
    hygiene = tables[0].table.hygiene
    if hygiene and hygiene.relative:
        doubts.append(RELATIVE.format(absent=", ".join(hygiene.absent)))
    for doubt in doubts:
        err.print(doubt, soft_wrap=True, highlight=False)


def print_result(
    result: SearchResult,
    sought: Objective,
    others: Sequence[Constraint],
    explanation: Explanation | None,
    distance: Distance | None,
    metric: str,
) -> None:
    """What was sought, for people."""
    if sought == "front":
        print_candidates(result.front, "Pareto front", others, metric)
    else:
        print_candidates(result.finalists(10), "Best candidates", others, metric)
    print_changes(explanation)
    if distance and distance.additive:
        print_distance(distance, distance.additive)
    out.print(f"{result.stopped[0].upper()}{result.stopped[1:]}; nothing here was measured on the device yet.")


def print_distance(distance: Distance, additive: AdditiveOptimum) -> None:
    """The best found beside the optimum of an additive fit."""
    explained = "" if additive.r2 is None else f" (it explains {100 * max(additive.r2, 0):.0f} % of the variance)"
    proved = "proved" if additive.proved else "not proved"
    out.print(
        f"By prediction the most accurate has {percent(distance.predicted)}; the optimum, {proved}, of the nearest sum "
        f"over blocks{explained} is {percent(additive.value)}, of an architecture predicted at "
        f"{percent(additive.predicted)}.",
        soft_wrap=True,
        highlight=False,
    )


def print_candidates(evaluations: Sequence[Evaluation], title: str, others: Sequence[Constraint], metric: str) -> None:
    """What is known of candidates, in their order."""
    from hwnas.search.budget import UNITS
    from hwnas.spaces import precision_of

    budgets = [constraint.budget for constraint in others]
    chosen = any(precision_of(e.architecture) for e in evaluations)
    rows = [
        [
            e.architecture.id,
            *([precision_of(e.architecture) or ""] if chosen else []),
            percent(e.top1),
            f"{milliseconds(e.predicted_ms)} ± {e.std_ms:.2g}",
            *(budget.number(other.mean) for budget, other in zip(budgets, e.others, strict=True)),
            e.origin,
        ]
        for e in evaluations
    ]
    further = [" ".join(filter(None, [UNITS[budget.quantity], budget.place])) for budget in budgets]
    precision = ["precision"] if chosen else []
    print_table(title, ["architecture", *precision, f"validation {metric}", "predicted", *further, "origin"], rows)


def print_changes(explanation: Explanation | None) -> None:
    """What to change first in the most accurate candidate at another budget."""
    if explanation:
        for at, name in ((explanation.grown, "more"), (explanation.shrunk, "less")):
            print_first_change(at, name)


def print_first_change(at: ChangedBudget, name: str) -> None:
    """What to change first in the best candidate at another budget."""
    where = f"With 10 % {name} ({milliseconds(at.limit_ms)}), "
    if not at.moves:
        ending = "the best stays as it is." if at.keeps else "no row of single changes would keep the budget."
    else:
        first = at.moves[0]
        gained = (
            f"{100 * first.top1:+.2f} points, {'+' if first.latency_ms > 0 else ''}{milliseconds(first.latency_ms)}"
        )
        ending = f"change first {first} ({gained} by prediction)."
    out.print(where + ending, soft_wrap=True, highlight=False)
