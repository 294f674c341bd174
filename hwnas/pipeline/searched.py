"""What is searched under: the tables of a device and a limit on its latency, in one precision or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hwnas.devices import (
    BACK_TO_BACK,
    Arrival,
    CompileOptions,
    Device,
    RuntimeChoice,
    Target,
    informed,
    load_target,
    open_device,
)
from hwnas.errors import UserError
from hwnas.latency import LatencyTable, load_table
from hwnas.latency.precision import PrecisionLatency
from hwnas.latency.store import mode_of
from hwnas.pipeline.latency import (
    LoadedTable,
    find_and_open_table,
    measure_architecture,
    open_imported_table,
    open_table,
)
from hwnas.search import Budget, Percentile
from hwnas.search.budget import LatencyPredictor
from hwnas.spaces import Architecture, Space, with_precisions


@dataclass(frozen=True)
class SearchedLatency:
    """What is searched under: a table for each precision, and what predicts by them.

    ``options`` are those of the first precision.
    """

    space: Space
    tables: tuple[LoadedTable, ...]
    predictor: LatencyPredictor
    options: CompileOptions


def open_latency(
    device: Device,
    space: Space,
    precisions: Sequence[str],
    root: Path,
    table: Path | None = None,
    *,
    statistic: Percentile = "p50",
    arrival: Arrival = BACK_TO_BACK,
    allow_stale: bool = False,
) -> SearchedLatency:
    """The tables of a live device for each precision; none given is the target's own.

    Args:
        root: directory of all tables.
        table: the one to use instead, for one precision.

    Raises:
        UserError: a precision is unknown to the device or cannot be searched, a table is missing, or one is given for
            several precisions.
        StaleTableError: as :func:`hwnas.pipeline.latency.open_table`.
    """
    choices = [RuntimeChoice(precision=name) for name in precisions]
    if not choices:
        choices = [RuntimeChoice() if table is None else _choice_of(load_table(table), device.target)]
    asked = [choice.options(device.target) for choice in choices]
    options = [informed(each, device.fingerprint(each)) for each in asked]
    if table is not None and len(options) > 1:
        raise UserError("One --table holds one precision; give --tables, where those of all precisions lie.")
    tables = tuple(
        open_table(device, space, table, statistic=statistic, arrival=arrival, allow_stale=allow_stale, options=each)
        if table is not None
        else find_and_open_table(
            device, space, root, statistic=statistic, arrival=arrival, allow_stale=allow_stale, options=each
        )
        for each in options
    )
    if len(tables) == 1:
        return SearchedLatency(space, tables, tables[0].model, options[0])
    searched = with_precisions(space, precisions)
    models = {name: loaded.model for name, loaded in zip(precisions, tables, strict=True)}
    return SearchedLatency(searched, tables, PrecisionLatency(searched, models), options[0])


def _choice_of(table: LatencyTable, target: Target) -> RuntimeChoice:
    """How the table's models were run, if the target has that; else its defaults, which the table then is not of."""
    support = target.runtimes.get(table.runtime)
    fitting = [name for name in support.providers if mode_of(name) == table.mode] if support else []
    if support is None or not fitting or table.precision not in support.precisions:
        return RuntimeChoice()
    return RuntimeChoice(table.runtime, fitting[0], table.precision, table.threads)


def imported_latency(space: Space, table: LoadedTable, precisions: Sequence[str]) -> SearchedLatency:
    """What is searched under where a table was measured elsewhere: in its own precision.

    Raises:
        UserError: others are asked for.
    """
    known = table.table.precision
    if precisions and tuple(precisions) != (known,):
        raise UserError(f"Imported table {table.path} is of {known}, not of {', '.join(precisions)}.")
    return SearchedLatency(space, (table,), table.model, CompileOptions(precision=known))


@dataclass(frozen=True)
class Limited:
    """A limit on a target's latency, and what is known of that latency.

    ``measure`` measures what the budget limits of an architecture, in ms, if it can; None for a device not at hand.
    """

    latency: SearchedLatency
    budget: Budget
    measure: Callable[[Architecture], float | None] | None


@dataclass(frozen=True)
class Limit:
    """A limit on the latency as it is asked for, ms."""

    ms: float
    statistic: Percentile = "p50"
    confidence: float = 0.95
    arrival: Arrival = BACK_TO_BACK


def limited(
    stack: ExitStack,
    target: str,
    space: Space,
    limit: Limit,
    precisions: Sequence[str],
    root: Path,
    table: Path | None,
    *,
    allow_stale: bool = False,
) -> Limited:
    """Open a target, which ``stack`` closes, and its tables; with an imported table there is no device to open.

    Raises:
        UserError, StaleTableError: as :func:`open_latency` and :func:`imported_latency`.
    """
    if table and load_table(table).kind == "imported":
        opened = open_imported_table(space, table, statistic=limit.statistic, arrival=limit.arrival)
        budget = Budget(
            opened.table.target,
            "latency_ms",
            limit.ms,
            statistic=limit.statistic,
            confidence=limit.confidence,
            arrival=limit.arrival,
        )
        return Limited(imported_latency(space, opened, precisions), budget, None)
    device = stack.enter_context(open_device(load_target(target)))
    latency = open_latency(
        device,
        space,
        precisions,
        root,
        table,
        statistic=limit.statistic,
        arrival=limit.arrival,
        allow_stale=allow_stale,
    )
    budget = Budget.on(
        device.target, limit.ms, statistic=limit.statistic, confidence=limit.confidence, arrival=limit.arrival
    )
    measure = partial(measure_architecture, device, latency.space, budget=budget, options=latency.options)
    return Limited(latency, budget, measure)
