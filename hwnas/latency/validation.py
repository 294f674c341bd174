"""A table's validation: its latency model, and simpler predictors, on networks that entered no fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.latency.base import Floats, LatencyModel
from hwnas.latency.figures import FEWEST, Figures, ValidationFigures, figures
from hwnas.latency.judging import location
from hwnas.latency.registry import fit_latency_model
from hwnas.latency.table import LatencyTable, NetworkEntry, Role, genomes_of, medians
from hwnas.spaces import Genomes, Space


def validated(table: LatencyTable, space: Space) -> LatencyTable:
    """The table with the figures of its held-out networks, and of those that a search proposed, by today's model.

    Raises:
        UserError: the table has too few blocks to fit a model.
    """
    found = {"validation": validate(table, space), "proposed": validate(table, space, "proposed")}
    return table.model_copy(update=found)


def validate(table: LatencyTable, space: Space, role: Role = "validation") -> ValidationFigures | None:
    """The figures of the table's own networks of a role; ``None`` where it has fewer than two.

    Raises:
        UserError: the table has too few blocks to fit a model.
    """
    model = fit_latency_model(table, space)
    held_out = table.with_role(role)
    if len(held_out) < FEWEST:
        return None
    return validation_figures(model, table, genomes_of(space, held_out), as_measured(table, held_out))


def as_measured(table: LatencyTable, entries: Sequence[NetworkEntry]) -> Floats:
    """Medians in ms, [n]; where boards measured together, in the time of the board that it was, not of their mean.

    Whoever uses the table has one board of the kind: how far boards differ is part of its error.
    """
    if not table.boards:
        return medians(entries)
    factors = [board.factor or 1.0 for board in table.boards]
    return np.array(
        [
            location([ms * factors[board] for ms, board in zip(entry.build_medians_ms, entry.boards, strict=True)])
            if entry.boards
            else entry.median_ms
            for entry in entries
        ]
    )


def validation_figures(
    model: LatencyModel, table: LatencyTable, genomes: Genomes, measured_ms: Floats
) -> ValidationFigures:
    """The figures of a model fitted to ``table`` on any measured networks [n], n ≥ 2, that entered no fit."""
    mean, std = model.predict(genomes)
    some = model.interpolated(genomes)
    interpolated = figures(measured_ms[some], mean[some], std[some]) if FEWEST <= some.sum() < len(some) else None
    return ValidationFigures(
        **dict(figures(measured_ms, mean, std)),
        interpolated=interpolated,
        baselines=_baselines(model, table, genomes, measured_ms),
    )


def _baselines(model: LatencyModel, table: LatencyTable, genomes: Genomes, measured_ms: Floats) -> dict[str, Figures]:
    baselines = {}
    if table.blocks:
        baselines["block_sum"] = figures(measured_ms, model.space.block_sum(genomes, model.times.ms))
    if len(table.with_role("calibration")) >= FEWEST:
        baselines["macs"] = figures(measured_ms, _line_through_macs(table, model.space, genomes))
    return baselines


def _line_through_macs(table: LatencyTable, space: Space, genomes: Genomes) -> Floats:
    """a + b·MACs, fitted to the calibration networks by least relative squares."""
    calibration = table.with_role("calibration")
    measured = medians(calibration)

    def features(rows: Genomes) -> Floats:
        return np.stack([np.ones(len(rows)), space.macs(rows)], axis=1)

    relative = features(genomes_of(space, calibration)) / measured[:, None]
    coefficients = np.linalg.lstsq(relative, np.ones(len(measured)), rcond=None)[0]
    return np.asarray(features(genomes) @ coefficients)
