"""The tables of a report: rows of text, ready for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hwnas.report import formats
from hwnas.report.data import FineTuned, HeldOutNetwork, Latency, LatencyFigures, Measurement, Network, ReportData
from hwnas.report.explained import Alternative, AtAnotherBudget
from hwnas.report.formats import ABSENT, decimal, milliseconds, percent, spread
from hwnas.report.verdict import speed_up

CAPABILITY, AS_IT_RAN = "capability (gated)", "as it ran (ungated)"
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: a caption, the heads of its columns, its rows; the first column names the row."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def beside(
    caption: str, columns: Sequence[tuple[str, Thing]], quantities: Sequence[tuple[str, Callable[[Thing], str]]]
) -> Grid:
    """Things beside each other: a column each, so that it can be read on a telephone; without any there is no row."""
    rows = tuple((name, *(cell(thing) for _, thing in columns)) for name, cell in quantities) if columns else ()
    return Grid(caption, ("", *(name for name, _ in columns)), rows)


def benchmark(data: ReportData) -> Grid:
    """The winner beside the yardsticks."""
    networks, statistic = data.networks, data.asked.statistic

    def latency(gated: bool, pick: Callable[[Latency], float | None]) -> Callable[[Network], str]:
        def cell(network: Network) -> str:
            measured = network.measured
            found = None if measured is None else measured.gated if gated else measured.ungated
            return ABSENT if found is None else milliseconds(pick(found))

        return cell

    def speed(network: Network) -> str:
        factor = 1.0 if network is data.winner.network else speed_up(data, network)
        return ABSENT if factor is None else formats.ratio(factor)

    quantities: tuple[tuple[str, Callable[[Network], str]], ...] = (
        (f"p50, {CAPABILITY}", latency(True, lambda found: found.p50_ms)),
        (f"p90, {CAPABILITY}", latency(True, lambda found: found.p90_ms)),
        (f"p99, {CAPABILITY}", latency(True, lambda found: found.p99_ms)),
        (f"p50, {AS_IT_RAN}", latency(False, lambda found: found.p50_ms)),
        (f"p90, {AS_IT_RAN}", latency(False, lambda found: found.p90_ms)),
        (f"p99, {AS_IT_RAN}", latency(False, lambda found: found.p99_ms)),
        (f"{statistic} against the winner's", speed),
        ("predicted", lambda n: milliseconds(n.predicted_ms)),
        (f"test {data.asked.metric}, compiled", lambda n: percent(n.top1_test)),
        (f"validation {data.asked.metric}", lambda n: percent(n.top1_validation)),
        ("input", lambda n: f"{n.resolution}{formats.NBSP}px"),
        ("throughput", lambda n: formats.per_second(n.throughput)),
        ("multiply-accumulates", lambda n: formats.count(n.macs)),
        ("parameters", lambda n: formats.count(n.params)),
        ("ONNX file", lambda n: formats.size(n.onnx_bytes)),
        ("engine", lambda n: formats.size(n.engine_bytes)),
        ("peak memory", lambda n: formats.mebibytes(n.peak_memory_mib)),
        ("build", lambda n: formats.duration(n.build_seconds)),
        ("parity with torch, in FP32", lambda n: ABSENT if n.parity is None else formats.significant(n.parity, 2)),
    )
    grid = beside("The winner beside the yardsticks", [(n.name, n) for n in networks], quantities)
    return replace(grid, rows=tuple(row for row in grid.rows if any(cell != ABSENT for cell in row[1:])))


def finetuned(data: ReportData) -> Grid:
    """What fine-tuning and pruning have made of the winner."""

    def interval(network: FineTuned) -> str:
        return ABSENT if network.interval_ms is None else " to ".join(map(milliseconds, network.interval_ms))

    quantities: tuple[tuple[str, Callable[[FineTuned], str]], ...] = (
        (data.asked.statistic, lambda n: milliseconds(n.figure_ms)),
        ("95 % interval", interval),
        (f"p50, {AS_IT_RAN}", lambda n: milliseconds(n.ungated_p50_ms)),
        (f"test {data.asked.metric}, by torch", lambda n: percent(n.top1_test)),
        (f"validation {data.asked.metric}", lambda n: percent(n.top1_validation)),
        ("multiply-accumulates", lambda n: formats.count(n.macs)),
        ("parameters", lambda n: formats.count(n.params)),
        ("architecture", lambda n: n.id),
    )
    return beside("The winner trained further alone", [(n.made, n) for n in data.finetuned], quantities)


def candidates(data: ReportData) -> Grid:
    """Every evaluation, in order."""
    front = set(data.search.front)
    heads = ("evaluation", f"validation {data.asked.metric}", "predicted", "front", "proposed by", "architecture")
    rows = tuple(
        (
            str(c.index + 1),
            percent(c.top1),
            spread(c.predicted_ms, c.std_ms),
            "yes" if c.id in front else "",
            c.origin,
            c.id,
        )
        for c in data.search.candidates
    )
    return Grid("Evaluated candidates", heads, rows)


def finalists(data: ReportData) -> Grid:
    """The finalists as predicted and as measured."""
    statistic = data.asked.statistic
    gated, ungated = f"{statistic}, {CAPABILITY}", f"{statistic}, {AS_IT_RAN}"
    interval_of = f"95 % interval, {data.asked.basis}"
    heads = (
        "finalist",
        f"validation {data.asked.metric}",
        "predicted",
        gated,
        ungated,
        interval_of,
        "budget",
        "architecture",
    )

    def stated(latency: Latency | None) -> str:
        return ABSENT if latency is None else milliseconds(latency.of(statistic))

    def interval(measured: Measurement) -> str:
        latency = measured.latency(data.asked.basis)
        ends = None if latency is None else latency.interval_ms
        return ABSENT if ends is None else " to ".join(map(milliseconds, ends))

    rows = tuple(
        (
            f"{number}, winner" if f.id == data.winner.id else str(number),
            percent(f.top1),
            milliseconds(f.predicted_ms),
            stated(f.measured.gated),
            stated(f.measured.ungated),
            interval(f.measured),
            "kept" if f.keeps_budget else "exceeded",
            f.id,
        )
        for number, f in enumerate(data.search.finalists, start=1)
    )
    return Grid("Finalists, measured on the device", heads, rows)


def model_figures(data: ReportData) -> Grid:
    """The latency model beside simpler predictors: a column each."""
    model = data.latency_model
    return predictors("On held-out networks", (*([model.figures] if model.figures else []), *model.baselines))


def predictors(caption: str, columns: Sequence[LatencyFigures]) -> Grid:
    """Figures of predictors: a column each."""
    quantities: tuple[tuple[str, Callable[[LatencyFigures], str]], ...] = (
        ("mean error (MAPE)", lambda f: f"{formats.significant(f.mape_percent)}{formats.NBSP}%"),
        ("within ±5 %", lambda f: formats.share(f.within_5_percent, f.within_5_interval)),
        ("within ±10 %", lambda f: formats.share(f.within_10_percent, f.within_10_interval)),
        ("Kendall τ", lambda f: decimal(f.kendall_tau)),
        ("Spearman ρ", lambda f: decimal(f.spearman)),
        ("RMSE", lambda f: milliseconds(f.rmse_ms)),
        ("inside the 95 % interval", lambda f: formats.share(f.coverage_95, f.coverage_95_interval)),
        ("networks", lambda f: str(f.n)),
    )
    return beside(caption, [(f.predictor, f) for f in columns], quantities)


def worth(data: ReportData) -> Grid:
    """What the last step up of each choice bought and cost, and what the next one would, by prediction."""
    heads = ("choice", "value", "bought", "for", "one more would buy", "for")

    def step(alternative: Alternative | None, sign: int) -> tuple[str, str]:
        if alternative is None:
            return ABSENT, ABSENT
        return formats.points(sign * alternative.top1), milliseconds(sign * alternative.latency_ms)

    rows = tuple(
        (choice.label, str(choice.value), *step(choice.lower, -1), *step(choice.higher, 1))
        for choice in (data.explained.choices if data.explained else ())
    )
    return Grid("Each choice against its neighbouring values, by prediction", heads, rows)


def what_to_change(data: ReportData) -> tuple[str, ...]:
    """What to change first at another budget."""
    explained = data.explained
    if explained is None:
        return ()
    certainty = (
        f"Differences of accuracy are predicted by what the search learned from {len(data.search.candidates)} "
        f"candidates, ± {formats.percent(explained.top1_std)} for the winner itself (one standard deviation)."
    )
    return (certainty, _grown(explained.grown), _shrunk(explained.shrunk))


def how_far(data: ReportData) -> tuple[str, ...]:
    """How far the winner is from the best there is, by prediction."""
    far = data.far_from_best
    if far is None:
        return ()
    explained = "" if far.r2 is None else f", which explains {percent(max(far.r2, 0.0))} of its variance within budget"
    bound = (
        "No bound of the predictor itself is known."
        if far.upper_bound is None
        else f"No architecture within the budget is predicted above {percent(far.upper_bound)}."
    )
    return (
        f"The winner is predicted at {percent(far.predicted)}. "
        f"The sum over blocks nearest to the predictor{explained}, has its optimum under the budget at "
        f"{percent(far.optimum)} ({'proved' if far.proved else 'not proved'}); the predictor puts that architecture at "
        f"{percent(far.optimum_predicted)}. {bound} None of this is measured "
        "accuracy.",
    )


def _grown(at: AtAnotherBudget) -> str:
    where = f"Had the budget been {milliseconds(at.limit_ms)} (10 % more)"
    if not at.moves:
        return f"{where}, no single change within it would be predicted to gain accuracy."
    return f"{where}, change first {_told(at.moves[0])}{_then(at)}."


def _shrunk(at: AtAnotherBudget) -> str:
    where = f"Had it been {milliseconds(at.limit_ms)} (10 % less)"
    if not at.keeps:
        return f"{where}, no row of single changes would keep it."
    if not at.moves:
        return f"{where}, the winner as it is would keep it."
    return f"{where}, change first {_told(at.moves[0])}{_then(at)}."


def _told(move: Alternative) -> str:
    return f"{move.change} ({formats.points(move.top1)}, {milliseconds(move.latency_ms)})"


def _then(at: AtAnotherBudget) -> str:
    end = f"predicted: {percent(at.top1)} at {milliseconds(at.latency_ms)}"
    return f"; with {len(at.moves) - 1} further changes, {end}" if len(at.moves) > 1 else f"; {end}"


def held_out(data: ReportData) -> Grid:
    """The held-out networks one by one."""
    return networks("Held-out networks", data.latency_model.held_out)


def networks(caption: str, networks: Sequence[HeldOutNetwork]) -> Grid:
    """Networks as predicted and as measured, one by one."""
    rows = tuple(
        (n.id, milliseconds(n.measured_ms), spread(n.predicted_ms, n.std_ms), _error(n.predicted_ms, n.measured_ms))
        for n in networks
    )
    return Grid(caption, ("network", "measured", "predicted", "error"), rows)


def blocks(data: ReportData) -> Grid:
    """The blocks of the winner."""
    rows = tuple(
        (b.label, milliseconds(b.ms), formats.count(b.spec.macs), formats.count(b.spec.params), b.spec.key)
        for b in data.winner.blocks
    )
    return Grid("Blocks of the winner", ("block", "latency", "MACs", "parameters", "key"), rows)


def steps(data: ReportData) -> Grid:
    """What each step of the run took."""
    rows = [(step.name, step.note, formats.duration(step.seconds)) for step in data.steps]
    if rows:
        rows.append(("together", "", formats.duration(sum(step.seconds for step in data.steps))))
    return Grid("Time of the steps", ("step", "", "time"), tuple(rows))


def asked(data: ReportData) -> tuple[tuple[str, str], ...]:
    """The request, as names and values."""
    a = data.asked
    return (
        ("target", a.target),
        ("space", a.space),
        ("data set", a.dataset),
        ("runtime", f"{a.runtime}, {a.mode}, {a.precision}"),
        ("batch, threads", f"{a.batch}, {a.threads}"),
        ("budget", f"{a.statistic} ≤ {milliseconds(a.budget_ms)}"),
        ("arrival", a.arrival),
        ("kept on", CAPABILITY if a.basis == "gated" else AS_IT_RAN),
        ("confidence", percent(a.confidence, 0)),
        ("strategy, seed", f"{a.strategy}, {a.seed}"),
        ("evaluations", _evaluations(data)),
    )


def table_facts(data: ReportData) -> tuple[tuple[str, str], ...]:
    """The latency table, then every knob of its protocol."""
    table = data.table
    return (
        ("table", table.name),
        ("kind", table.kind),
        ("created", formats.moment(table.created)),
        ("blocks measured", f"{table.blocks_measured} of {table.blocks}"),
        *formats.facts(table.protocol),
    )


def _error(predicted: float, measured: float) -> str:
    return percent(predicted / measured - 1, 1)


def _evaluations(data: ReportData) -> str:
    searched = len(data.search.candidates) - data.search.refined
    further = f", and {data.search.refined} more near the finalists" if data.search.refined else ""
    return f"{searched} of {data.asked.evaluations} asked for{further}"
