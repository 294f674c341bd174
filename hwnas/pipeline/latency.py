"""What several commands do with a device and its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwnas.devices import Device, MeasureOptions
from hwnas.errors import UserError
from hwnas.graphs import network_graph
from hwnas.latency import (
    LatencyModel,
    LatencyTable,
    TableKey,
    check_fingerprint,
    find_table,
    fit_latency_model,
    load_table,
)
from hwnas.spaces import Architecture, Space


@dataclass(frozen=True, slots=True)
class LoadedTable:
    """A table that fits the device, and the model fitted to it."""

    path: Path
    table: LatencyTable
    model: LatencyModel
    stale: bool
    """The device is not quite the one that was measured, which the user allowed."""


def open_table(device: Device, space: Space, path: Path, *, allow_stale: bool = False) -> LoadedTable:
    """Read a table for a live device and fit its latency model; the device is told the table's fast state.

    Raises:
        BadFileError: it is not a table.
        UserError: it is of another target or space.
        StaleTableError: it was measured on a device with another fingerprint, and that is not allowed.
    """
    table = load_table(path)
    for what, found, wanted in (
        ("target", table.target, device.target.name),
        ("space", table.space, space.name),
        ("number of classes", table.num_classes, space.num_classes),
    ):
        if found != wanted:
            raise UserError(f"Latency table {path} is of {what} {found}, not {wanted}; give the right one.")
    fresh = check_fingerprint(table, device.fingerprint(), allow_stale, path)
    if fresh:
        for canary, milliseconds in table.fast_states_ms.items():
            device.recall_fast_state(milliseconds, canary=canary)
    return LoadedTable(path, table, fit_latency_model(table, space), stale=not fresh)


def find_and_open_table(device: Device, space: Space, root: Path, *, allow_stale: bool = False) -> LoadedTable:
    """The table of a live device below ``root``, with the target's default options."""
    fingerprint = device.fingerprint()
    key = TableKey.of(device.target.name, space, device.default_options(), fingerprint)
    path = find_table(root, key, fingerprint, allow_stale=allow_stale)
    return open_table(device, space, path, allow_stale=allow_stale)


def measure_architecture(device: Device, space: Space, architecture: Architecture) -> float:
    """The p50 latency of an architecture in ms, by its graph alone: latency does not depend on the weights.

    It is the gated figure where the device's fast state was seen, else the ungated one.
    """
    engine = device.compile(network_graph(space.blocks(architecture)).SerializeToString())
    try:
        measurement = device.measure(engine, MeasureOptions(max_seconds=5.0))
    finally:
        device.release(engine)
    p50 = measurement.gated.p50_ms if measurement.gated.p50_ms is not None else measurement.ungated.p50_ms
    assert p50 is not None, "a measurement has at least one sample"
    return p50
