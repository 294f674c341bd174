#!/usr/bin/env python3
"""Whether budgets hold: networks found for budgets all over a space, measured on builds that chose nothing.

For each budget a search finds candidates by the latency model alone, finalists are measured, one is promised, and then
measured a third time on three builds more (the audit), whose figures are those printed. In place of accuracy the search
maximises multiply-accumulates: nothing needs training, and nothing pushes harder towards networks that the latency
model takes for faster than they are. What has been measured stays in --root: interrupted, the same command goes on.
With --json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hwnas.cli.console import bars, milliseconds, percent, print_table
from hwnas.devices import Device, load_target, open_device
from hwnas.errors import HwnasError
from hwnas.files import sha256_of
from hwnas.graphs import network_graph
from hwnas.pipeline.latency import LoadedTable, find_and_open_table, promise_protocol
from hwnas.progress import Progress
from hwnas.search import (
    Budget,
    Evaluation,
    ExportedCandidate,
    Finalist,
    Percentile,
    Refinement,
    SearchOptions,
    choose_and_promise,
    fastest,
    measure_finalists,
    run_search,
)
from hwnas.spaces import Architecture, Space, get_space

AUDIT_BUILDS = 3
_ABOVE_LEAST, _ANYTHING_MS = 1.02, 1e9


@dataclass(frozen=True)
class Outcome:
    """What came of one budget: the finalists measured, and the promised one, measured again."""

    budget: Budget
    predicted_ms: dict[Architecture, float]
    measured: Sequence[Finalist]
    promised: Finalist | None
    audited: Finalist | None

    @property
    def unused(self) -> float | None:
        """Share of the budget, negative where the audit exceeds it."""
        if self.audited is None or self.audited.figure_ms is None:
            return None
        return 1 - self.audited.figure_ms / self.budget.limit

    @property
    def by_model(self) -> list[bool]:
        """Of the candidates measured for the choice, which all kept the budget by prediction: whether they do."""
        return [finalist.keeps for finalist in self.measured if finalist.figure_ms is not None]

    def record(self) -> dict[str, Any]:
        """For JSON; times in ms."""
        found: dict[str, Any] = {
            "budget_ms": self.budget.limit,
            "candidates_measured": len(self.by_model),
            "candidates_exceeding": self.by_model.count(False),
        }
        if self.promised is None or self.audited is None:
            return found
        gated, ungated = self.audited.gated, self.audited.ungated
        return found | {
            "architecture": self.promised.architecture.id,
            "predicted_ms": self.predicted_ms[self.promised.architecture],
            "promised_ms": self.promised.figure_ms,
            "surely": self.promised.surely,
            "measured_ms": self.audited.figure_ms,
            "interval_ms": (gated if self.budget.gated else ungated).interval_ms,
            "p50_ms": gated.statistics.p50_ms,
            "p99_ms": gated.statistics.p99_ms,
            "ungated_p50_ms": ungated.statistics.p50_ms,
            "ungated_p99_ms": ungated.statistics.p99_ms,
            "unused": self.unused,
        }


class MultiplyAccumulates:
    """Those of an architecture as a share of the space's largest."""

    identity = "macs"

    def __init__(self, space: Space) -> None:
        self._space = space
        self._most = float(space.macs(space.largest_genome)[0])

    def __call__(self, architecture: Architecture) -> float:
        return float(self._space.macs(self._space.encode([architecture]))[0]) / self._most


@dataclass(frozen=True)
class Bench:
    """A device, a space, and how budgets on it are kept."""

    device: Device
    space: Space
    latency: LoadedTable
    statistic: Percentile
    confidence: float
    finalists: int
    evaluations: int
    root: Path
    progress: Progress

    def budget(self, limit_ms: float) -> Budget:
        return Budget.on(self.device.target, limit_ms, statistic=self.statistic, confidence=self.confidence)

    def limits_ms(self, n: int) -> list[float]:
        """From a little above what the fastest architecture surely keeps to what the largest is predicted at."""
        anything = self.budget(_ANYTHING_MS)
        genome = self.space.encode([fastest(self.space, self.latency.model, anything.z)[0]])
        least = float(anything.upper(*self.latency.model.predict(genome))[0])
        most = float(self.latency.model.predict(self.space.largest_genome)[0][0])
        return [float(f"{limit:.4g}") for limit in np.geomspace(_ABOVE_LEAST * least, most, n)]

    def outcome(self, limit_ms: float) -> Outcome:
        """Search, choose, promise and audit."""
        budget, directory = self.budget(limit_ms), self.root / f"{limit_ms:g}ms"
        options = SearchOptions(evaluations=self.evaluations)
        evaluate = MultiplyAccumulates(self.space)
        found = run_search(self.space, self.latency.model, budget, evaluate, directory / "search", options)
        ranked = list(found.best_first())
        refinement = Refinement(
            self.space, self.latency.model, budget, evaluate, found.evaluations, directory / "search" / "refined", 0
        )
        refined: list[Evaluation] = []

        def refine(measured: Sequence[Finalist]) -> list[ExportedCandidate]:
            refined.extend(refinement.search(measured))
            return [self._candidate(e.architecture, e.top1) for e in refined]

        choice = choose_and_promise(
            self.device,
            self._groups(ranked),
            budget,
            directory=directory,
            refine=refine,
            compile_options=self.device.default_options(),
            measure_options=promise_protocol(self.device, self.space),
            progress=self.progress,
        )
        by_model = {evaluation.architecture for evaluation in ranked}
        return Outcome(
            budget,
            {evaluation.architecture: evaluation.predicted_ms for evaluation in (*ranked, *refined)},
            [finalist for finalist in choice.measured if finalist.architecture in by_model],
            choice.promised,
            None if choice.promised is None else self._audit(choice.promised, budget, directory),
        )

    def _groups(self, ranked: Sequence[Evaluation]) -> Iterator[list[ExportedCandidate]]:
        for start in range(0, len(ranked), self.finalists):
            yield [self._candidate(e.architecture, e.top1) for e in ranked[start : start + self.finalists]]

    def _candidate(self, architecture: Architecture, rank: float) -> ExportedCandidate:
        return ExportedCandidate(
            architecture, network_graph(self.space.network(architecture)).SerializeToString(), rank
        )

    def _audit(self, promised: Finalist, budget: Budget, directory: Path) -> Finalist:
        (audited,) = measure_finalists(
            self.device,
            [self._candidate(promised.architecture, promised.top1)],
            budget,
            journal=directory / "audit.jsonl",
            builds=AUDIT_BUILDS,
            compile_options=self.device.default_options(),
            measure_options=promise_protocol(self.device, self.space),
            progress=self.progress,
        )
        return audited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="host-cpu")
    parser.add_argument("--preset", default="small", help="of mobilenet_v3 (default: small)")
    parser.add_argument("--tables", type=Path, default=Path("latency_tables"), help="where this device's table is")
    parser.add_argument("--budgets", type=int, default=20, help="how many, spread over the space (default: 20)")
    parser.add_argument("--statistic", choices=get_args(Percentile), default="p50")
    parser.add_argument("--confidence", type=float, default=0.95, help="with which a prediction keeps the budget")
    parser.add_argument("--finalists", type=int, default=5, help="measured together (default: 5)")
    parser.add_argument("--evaluations", type=int, default=48, help="of each search (default: 48)")
    parser.add_argument("--root", type=Path, default=Path("runs/bench_budgets"), help="of what is measured")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        outcomes = measured(arguments)
    except HwnasError as error:
        print(f"bench_budgets: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(outcomes)
    if arguments.json:
        rows = [outcome.record() for outcome in outcomes]
        print(json.dumps({**summary(outcomes), "rows": rows}, allow_nan=False))


def measured(arguments: argparse.Namespace) -> list[Outcome]:
    space = get_space(f"mobilenet_v3/{arguments.preset}")
    with open_device(load_target(arguments.target)) as device, bars() as progress:
        latency = find_and_open_table(device, space, arguments.tables, statistic=arguments.statistic)
        # What was measured for other settings is not this bench's.
        settings = f"{arguments.statistic}-{arguments.confidence:g}-{arguments.finalists}-{arguments.evaluations}"
        bench = Bench(
            device,
            space,
            latency,
            arguments.statistic,
            arguments.confidence,
            arguments.finalists,
            arguments.evaluations,
            arguments.root / f"{space.preset}-{sha256_of(latency.path)[:8]}-{settings}",
            progress,
        )
        return [bench.outcome(limit) for limit in bench.limits_ms(arguments.budgets)]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures over all budgets."""
    unused = [outcome.unused for outcome in outcomes if outcome.unused is not None]
    by_model = [keeps for outcome in outcomes for keeps in outcome.by_model]
    return {
        "budgets": len(outcomes),
        "promised": len(unused),
        "exceeding": sum(share < 0 for share in unused),
        "unused_median": float(np.median(unused)) if unused else None,
        "unused_least": min(unused, default=None),
        "unused_most": max(unused, default=None),
        "candidates_measured": len(by_model),
        "candidates_exceeding": by_model.count(False),
    }


def show(outcomes: Sequence[Outcome]) -> None:
    header = [
        "budget",
        "predicted",
        "promised",
        "audited",
        "95 % interval",
        "unused",
        "p99",
        "p50 ungated",
        "p99 ungated",
    ]
    print_table(
        "Networks promised for a budget, measured on three builds more", header, [line(outcome) for outcome in outcomes]
    )
    total = summary(outcomes)
    print(
        f"{total['exceeding']} of {total['promised']} promised networks exceed their budget when audited; "
        f"{percent(total['unused_median'])} of the budget is unused in the median; without measuring finalists, "
        f"{total['candidates_exceeding']} of {total['candidates_measured']} would have exceeded theirs."
    )


def line(outcome: Outcome) -> list[str]:
    found = outcome.record()
    interval = found.get("interval_ms")
    return [
        milliseconds(outcome.budget.limit),
        *(milliseconds(found.get(name)) for name in ("predicted_ms", "promised_ms", "measured_ms")),
        "" if interval is None else " to ".join(map(milliseconds, interval)),
        percent(outcome.unused),
        *(milliseconds(found.get(name)) for name in ("p99_ms", "ungated_p50_ms", "ungated_p99_ms")),
    ]


if __name__ == "__main__":
    main()
