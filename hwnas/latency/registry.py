"""The kinds of latency model; a new one is a new file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from hwnas.errors import UnknownNameError
from hwnas.latency.base import LatencyModel
from hwnas.latency.fewshot import FewShotModel
from hwnas.latency.model import AdditiveModel
from hwnas.latency.table import P50, LatencyTable, Statistic
from hwnas.spaces import Space

LATENCY_MODELS: dict[str, Callable[[LatencyTable, Space, Statistic], LatencyModel]] = {
    "additive": AdditiveModel.fit,
    "few-shot": FewShotModel.fit,
}


def fit_latency_model(
    table: LatencyTable, space: Space, name: str | None = None, statistic: Statistic = P50
) -> LatencyModel:
    """What predicts the latency of every architecture of ``space``, from a table of that space.

    What it predicts is ``statistic`` of a network's latency.  Without a ``name`` it is ``additive``, or ``few-shot``
    where the table holds whole networks alone.

    Raises:
        UserError: the table is of another space, or has too few blocks or networks.
        UnknownNameError: there is no model of that name.
    """
    if name is None:
        name = "additive" if table.blocks else "few-shot"
    if name not in LATENCY_MODELS:
        raise UnknownNameError(f"There is no latency model '{name}'; known are {', '.join(LATENCY_MODELS)}.")
    table.require_space(space)
    return LATENCY_MODELS[name](table, space, statistic)
