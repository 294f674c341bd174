"""What several commands do with a device and its table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hwnas.devices import BACK_TO_BACK, Arrival, CompileOptions, Device, MeasureOptions
from hwnas.errors import UserError
from hwnas.latency import (
    LatencyModel,
    LatencyTable,
    TableKey,
    check_fingerprint,
    find_table,
    fit_latency_model,
    load_table,
)
from hwnas.latency.plan import Unit, network_protocol
from hwnas.latency.table import Statistic
from hwnas.latency.unit_model import unit_model
from hwnas.search import Budget, ExportedCandidate, Percentile, measure_finalists
from hwnas.search.finalists import LEAST_SAMPLES
from hwnas.spaces import Architecture, Space, precision_of


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table that fits the device, and the model fitted to it."""

    path: Path
    table: LatencyTable
    model: LatencyModel
    stale: bool
    """The device is not quite the one that was measured, which the user allowed."""


def open_table(
    device: Device,
    space: Space,
    path: Path,
    *,
    statistic: Percentile = "p50",
    arrival: Arrival = BACK_TO_BACK,
    allow_stale: bool = False,
    options: CompileOptions | None = None,
) -> LoadedTable:
    """Read a table for a live device and fit its latency model; the device is told the table's fast state.

    ``options`` are those that the device runs models with, by default the target's.

    What the model predicts is the statistic of the samples that a promise for the target is kept on.

    Raises:
        BadFileError: it is not a table.
        UserError: it is of another target, space, precision or arrival of runs, or does not state the statistic.
        StaleTableError: it was measured on a device with another fingerprint, and that is not allowed.
    """
    table = load_table(path)
    options = options or device.default_options()
    for what, found, wanted in (
        ("target", table.target, device.target.name),
        ("precision", table.precision, options.precision),
        ("space", table.space, space.name),
        ("number of classes", table.num_classes, space.num_classes),
        ("runs that follow each other", table.arrival, str(arrival)),
    ):
        if found != wanted:
            raise UserError(f"Latency table {path} is of {what} {found}, not {wanted}; give the right one.")
    fresh = check_fingerprint(table, device.fingerprint(options), allow_stale, path)
    if fresh:
        for canary, milliseconds in table.fast_states_ms.items():
            device.recall_fast_state(milliseconds, options, canary=canary)
    model = fit_latency_model(table, space, statistic=Statistic(statistic, gated=device.target.shared))
    return LoadedTable(path, table, model, stale=not fresh)


def open_imported_table(
    space: Space, path: Path, *, statistic: Percentile = "p50", arrival: Arrival = BACK_TO_BACK
) -> LoadedTable:
    """Read a table that somebody else measured, of a device that is not at hand, and fit its latency model.

    Raises:
        BadFileError: it is not a table.
        UserError: it is of another space, or another statistic or arrival is wanted than what was published: means,
            taken for p50, of runs back to back.
    """
    table = load_table(path)
    if statistic != "p50" or arrival != BACK_TO_BACK:
        raise UserError(f"Imported table {path} knows p50 of runs back to back alone, not {statistic}, {arrival}.")
    return LoadedTable(path, table, fit_latency_model(table, space), stale=False)


def find_and_open_table(
    device: Device,
    space: Space,
    root: Path,
    *,
    statistic: Percentile = "p50",
    arrival: Arrival = BACK_TO_BACK,
    allow_stale: bool = False,
    options: CompileOptions | None = None,
) -> LoadedTable:
    """The table of a live device below ``root``, for models run with ``options``, by default the target's."""
    options = options or device.default_options()
    fingerprint = device.fingerprint(options)
    key = TableKey.of(device.target.name, space, options, fingerprint, fps=arrival.fps)
    path = find_table(root, key, fingerprint, allow_stale=allow_stale)
    return open_table(
        device, space, path, statistic=statistic, arrival=arrival, allow_stale=allow_stale, options=options
    )


def promise_protocol(device: Device, space: Space) -> MeasureOptions:
    """How networks of a space are measured on a device before anything is promised of them."""
    options = network_protocol(space, min_samples=LEAST_SAMPLES)
    return replace(options, max_seconds=10.0, soak_seconds=device.target.promise_soak_s)


def measure_architecture(
    device: Device, space: Space, architecture: Architecture, budget: Budget, options: CompileOptions | None = None
) -> float | None:
    """What a budget limits, of an architecture in ms, by its graph alone: latency does not depend on the weights.

    One build is measured, in the precision that the architecture chooses, or else that of ``options``; ``None`` where
    it gave too few samples to state the statistic.
    """
    options = options or device.default_options()
    options = replace(options, precision=precision_of(architecture) or options.precision)
    onnx = unit_model(Unit.of_network(space, architecture, "proposed"), 1, options)
    with TemporaryDirectory() as directory:
        (found,) = measure_finalists(
            device,
            [ExportedCandidate(architecture, onnx, 0.0)],
            budget,
            journal=Path(directory) / "journal.jsonl",
            builds=1,
            compile_options=options,
            measure_options=promise_protocol(device, space),
        )
    return found.figure_ms
