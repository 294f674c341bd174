"""How well a run's latency model foretells, as the report shows it."""

from __future__ import annotations

from hwnas import report
from hwnas.latency import Figures, LatencyTable, figures
from hwnas.latency.table import P50, Statistic, genomes_of, values_ms
from hwnas.pipeline.judged_model import held_out_networks, latency_figures
from hwnas.pipeline.run.run import Run


def latency_quality(run: Run) -> report.LatencyModelQuality:
    """The latency model on the networks that it was not fitted to."""
    table, model = run.latency.table, run.latency.model
    statistic = Statistic(run.budget.statistic, run.budget.gated)
    entries = [entry for entry in table.with_role("validation") if entry.value_ms(statistic) is not None]
    if not entries:
        return report.LatencyModelQuality()
    measured_ms = values_ms(entries, statistic)
    mean, std = model.predict(genomes_of(run.space, entries))
    return report.LatencyModelQuality(
        held_out=held_out_networks(entries, measured_ms, mean, std),
        **_all_figures(table, figures(measured_ms, mean, std) if statistic != P50 and len(entries) > 1 else None),
    )


def _all_figures(
    table: LatencyTable, other: Figures | None
) -> dict[str, report.LatencyFigures | tuple[report.LatencyFigures, ...] | None]:
    """The table's own figures, which are of the gated p50, or those of another statistic."""
    if other is not None:
        return {"figures": latency_figures("latency model", other), "baselines": ()}
    validation = table.validation
    if validation is None:
        return {"figures": None, "baselines": ()}
    baselines = tuple(latency_figures(name.replace("_", " "), found) for name, found in validation.baselines.items())
    return {"figures": latency_figures("latency model", validation), "baselines": baselines}
