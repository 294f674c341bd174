"""``hwnas run``: the whole way, from a device and a data set to a benchmarked network and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.console import JsonOption, bars, command, milliseconds, out, percent, print_json, print_table
from hwnas.cli.finetune import print_finetuned
from hwnas.cli.labels import EMULATED
from hwnas.search.options import DEFAULT_STRATEGY, STRATEGIES

if TYPE_CHECKING:
    from hwnas.pipeline.documents import Summary, YardstickSummary

LABELS = {"gated": "capability (gated)", "ungated": "as it ran (ungated)"}


@command
def run(
    name: Annotated[str, typer.Option(help="Of the run; the same one goes on where it stopped.")],
    target: Annotated[str, typer.Option(help="Name of a target, or its YAML file.")] = "host-cpu",
    space: Annotated[str, typer.Option(help="Search space, FAMILY/PRESET.")] = "mobilenet_v3/small",
    data: Annotated[
        str, typer.Option(help="fashion-mnist, cifar10, a folder or a parquet file; for detectors, a folder as COCO's.")
    ] = "fashion-mnist",
    data_root: Annotated[Path | None, typer.Option(help="Where the files of a named data set lie.")] = None,
    download: Annotated[bool, typer.Option(help="Fetch a named data set that is not on this machine.")] = False,
    supernet: Annotated[
        Path | None, typer.Option(help="Directory of trained weights; default: those shipped, else train.")
    ] = None,
    train_epochs: Annotated[int, typer.Option(min=1, help="If a supernet must be trained.")] = 30,
    options: Annotated[
        Path | None, typer.Option(help="options.json of `hwnas tune`, with which a supernet is then trained.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Latency table to use; default: profile the target.")] = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="Time to profile.")] = 10.0,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit on the latency, ms; default: the space's median. Again for more: macs=3M, note10=20 (ms)."
        ),
    ] = None,
    tables: Annotated[Path, typer.Option(help="Directory of the latency tables of other targets.")] = Path(
        "latency_tables"
    ),
    precision: Annotated[
        str | None, typer.Option(help="In which networks are searched and measured: fp32, fp16, int8.")
    ] = None,
    statistic: Annotated[str, typer.Option(help="What the budget limits of the latency: p50 or p99.")] = "p50",
    fps: Annotated[
        float, typer.Option(min=0, help="Frames a second that arrive; default, 0: runs back to back.")
    ] = 0.0,
    confidence: Annotated[float, typer.Option(help="With which a prediction must keep the budget.")] = 0.95,
    strategy: Annotated[str, typer.Option(help=f"One of {', '.join(STRATEGIES)}.")] = DEFAULT_STRATEGY,
    evaluations: Annotated[int, typer.Option(help="Candidates to evaluate with the supernet's weights.")] = 48,
    finalists: Annotated[int, typer.Option(min=1, help="Candidates to measure before one is chosen.")] = 5,
    builds: Annotated[int, typer.Option(min=1, help="Fresh compilations of each finalist.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that evaluate at once; 0: this one alone.")] = 0,
    machines: Annotated[Path | None, typer.Option(help="YAML list of machines with workers.")] = None,
    finetune_epochs: Annotated[
        float, typer.Option(min=0, help="Of further training of the winner alone; 0: none (docs/finetuning.md).")
    ] = 0.0,
    prune: Annotated[
        str | None, typer.Option(help="Latency that it is pruned to in ms, such as 0.06, or the share to go, as 30%.")
    ] = None,
    allow_stale: Annotated[
        bool, typer.Option(help="Use a table measured on another device; the report says so.")
    ] = False,
    runs: Annotated[Path, typer.Option(help="Directory of all runs.")] = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Profile, search under a latency budget, re-measure, export, compile, benchmark, report."""
    from hwnas.cli.checks import (
        check_budgets,
        check_evaluations,
        check_name,
        check_one_precision,
        check_statistic,
    )
    from hwnas.pipeline.config import RunConfig
    from hwnas.pipeline.run import Run, execute

    check_name(name)
    written = check_budgets(budget, confidence)
    check_evaluations(evaluations)
    config = RunConfig(
        target=target,
        space=space,
        dataset=data,
        data_root=None if data_root is None else str(data_root),
        download=download,
        supernet=None if supernet is None else str(supernet),
        train_epochs=train_epochs,
        options=None if options is None else str(options),
        table=None if table is None else str(table),
        minutes=minutes,
        budget_ms=written.latency_ms,
        budgets=written.others,
        tables=str(tables),
        precision=check_one_precision(precision),
        statistic=check_statistic(statistic),
        fps=fps,
        confidence=confidence,
        strategy=strategy,
        evaluations=evaluations,
        finalists=finalists,
        builds=builds,
        seed=seed,
        threads=threads,
        workers=workers,
        machines=None if machines is None else str(machines),
        finetune_epochs=finetune_epochs,
        prune=prune,
        allow_stale=allow_stale,
    )
    with bars() as progress:
        summary = execute(Run(runs / name, config, progress))
    if json:
        print_json(summary.model_dump(mode="json", by_alias=True))
    else:
        print_summary(summary)
    if summary.finetuned is not None:
        summary.finetuned.require_kept()


def print_summary(summary: Summary) -> None:
    """The figures of a run, for people."""
    if summary.emulated:
        out.print(EMULATED, soft_wrap=True)
    limit, promised = milliseconds(summary.budget_ms), milliseconds(summary.promised_ms)
    interval = (
        "" if summary.promised_interval_ms is None else " to ".join(map(milliseconds, summary.promised_interval_ms))
    )
    at = [limit, ""] if summary.statistic == "p50" else ["", limit]
    predicted = milliseconds(summary.predicted_ms)
    foretold = [predicted, ""] if summary.statistic == "p50" else ["", predicted]
    rows = [
        ["budget", *at, "", f"{summary.budget_source}; {summary.arrival}"],
        ["predicted", *foretold, "", f"± {milliseconds(summary.predicted_std_ms)}"],
    ]
    rows += [
        [f"budget {other.place}".rstrip(), "", "", "", f"{other.limit}; {other.predicted}"] for other in summary.others
    ]
    rows += _measured(f"measured: {summary.architecture}", summary, summary.top1, summary.basis)
    for yardstick in summary.yardsticks:
        rows += _measured(f"yardstick: {yardstick.name}", yardstick, yardstick.top1)
    title = f"{summary.space} on {summary.target}, {summary.dataset}: {summary.evaluations} candidates evaluated"
    print_table(title, ["", "p50", "p99", f"test {summary.metric}", ""], rows)
    out.print(
        f"The {summary.statistic} of {summary.promise_builds} fresh builds, {LABELS[summary.basis]}, is {promised}"
        f"{f' (95 % interval {interval})' if interval else ''} and keeps the budget of {limit}.",
        soft_wrap=True,
    )
    if summary.finetuned is not None:
        print_finetuned(summary.finetuned)
    out.print(f"Report: [bold]{summary.report}[/]", soft_wrap=True)


def _measured(
    name: str, figures: Summary | YardstickSummary, top1: float | None, basis: str | None = None
) -> list[list[str]]:
    """The device's capability, and what the machine gave that day."""
    untrained = "not trained" if top1 is None else ""
    return [
        [
            name if sampling == "gated" else "",
            milliseconds(p50_ms),
            milliseconds(p99_ms),
            percent(top1) if sampling == "gated" else "",
            ", ".join(filter(None, [LABELS[sampling], "keeps the budget" if sampling == basis else untrained])),
        ]
        for sampling, p50_ms, p99_ms in (
            ("gated", figures.measured_p50_ms, figures.measured_p99_ms),
            ("ungated", figures.ungated_p50_ms, figures.ungated_p99_ms),
        )
    ]
