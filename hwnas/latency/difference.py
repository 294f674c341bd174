"""How far two latency tables of one space agree, entry by entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.errors import UserError
from hwnas.latency.figures import rank_correlations
from hwnas.latency.table import Kind, LatencyTable, Timing

_HEADER = ("kind", "target", "runtime", "mode", "precision", "batch", "threads", "arrival", "relative")


@dataclass(frozen=True, slots=True)
class EntryDifference:
    """One block or network that stands in both tables."""

    name: str
    """The block's key or the architecture's id."""
    first_ms: float
    second_ms: float
    relative: float
    """By what the second exceeds the first, as a share of the first, drift divided out."""


@dataclass(frozen=True, slots=True)
class KindDifference:
    """All blocks, or all networks, of two tables."""

    common: tuple[EntryDifference, ...]
    """The largest difference first."""
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    drift: float | None
    """By what the device's fast state was slower when the second was measured, as a share; it is divided out.

    ``None``: nothing is, since a table states no fast state, or they are of different devices.
    """

    @property
    def median(self) -> float | None:
        """Of the absolute differences, as a share; ``None`` without a common entry."""
        return self._quantile(0.5)

    @property
    def p95(self) -> float | None:
        """Likewise: 95 % of the common entries differ by no more."""
        return self._quantile(0.95)

    @property
    def shift(self) -> float | None:
        """Median of the signed differences: positive where the second table is slower."""
        return float(np.median([entry.relative for entry in self.common])) if self.common else None

    @property
    def kendall_tau(self) -> float | None:
        """How alike both tables rank the common entries, -1..1; ``None`` if one of them ranks none."""
        times = np.array([(entry.first_ms, entry.second_ms) for entry in self.common]).reshape(-1, 2)
        return rank_correlations(times[:, 0], times[:, 1])[0]

    def _quantile(self, q: float) -> float | None:
        if not self.common:
            return None
        # An order statistic, as all percentiles here are, but for the median of an even number.
        method: Any = "linear" if q == 0.5 else "inverted_cdf"
        return float(np.quantile([abs(entry.relative) for entry in self.common], q, method=method))


@dataclass(frozen=True, slots=True)
class TableDifference:
    """What distinguishes two tables."""

    header: tuple[str, ...]
    """How and on what they were measured, as far as that differs: ``precision: fp32 → fp16``."""
    blocks: KindDifference
    networks: KindDifference

    def agrees(self, within: float) -> bool:
        """Whether the median block and the median network, as far as there are any, differ by at most this share."""
        medians = [kind.median for kind in (self.blocks, self.networks) if kind.median is not None]
        return all(median <= within for median in medians)


def table_difference(first: LatencyTable, second: LatencyTable) -> TableDifference:
    """Compare the medians of two tables of one space.

    Where both are of one device and state its fast state, times are compared in units of that, so that what remains
    is a difference between the measurements and not between the device's states.

    Raises:
        UserError: the tables are of different spaces, or have no entry in common.
    """
    if (first.space, first.num_classes) != (second.space, second.num_classes):
        raise UserError(
            f"One table is of {first.space} with {first.num_classes} classes, the other of {second.space} with "
            f"{second.num_classes}; only tables of the same space can be compared."
        )
    difference = TableDifference(
        header=tuple(_header(first, second)),
        blocks=_compare(_blocks(first), _blocks(second), _drift(first, second, "blocks")),
        networks=_compare(_networks(first), _networks(second), _drift(first, second, "networks")),
    )
    if not (difference.blocks.common or difference.networks.common):
        raise UserError(f"The two tables of {first.space} have no block and no network in common.")
    return difference


def _blocks(table: LatencyTable) -> dict[str, Timing]:
    return {entry.block.key: entry for entry in table.blocks}


def _networks(table: LatencyTable) -> dict[str, Timing]:
    return {entry.architecture.id: entry for entry in table.networks}


def _compare(first: Mapping[str, Timing], second: Mapping[str, Timing], drift: float | None) -> KindDifference:
    common = []
    for name in first.keys() & second.keys():
        ours, theirs = first[name].median_ms, second[name].median_ms
        common.append(EntryDifference(name, ours, theirs, theirs / ours / (1 + (drift or 0.0)) - 1))
    return KindDifference(
        common=tuple(sorted(common, key=lambda entry: (-abs(entry.relative), entry.name))),
        only_first=tuple(sorted(first.keys() - second.keys())),
        only_second=tuple(sorted(second.keys() - first.keys())),
        drift=drift,
    )


def _drift(first: LatencyTable, second: LatencyTable, kind: Kind) -> float | None:
    """Of the fast state by which both tables' entries of a kind were judged."""
    states = [table.fast_state_ms(kind) for table in (first, second)]
    same_device = first.fingerprint.identity8 == second.fingerprint.identity8
    same_canary = first.canary(kind) == second.canary(kind)
    if not (same_device and same_canary) or states[0] is None or states[1] is None:
        return None
    return states[1] / states[0] - 1


def _header(first: LatencyTable, second: LatencyTable) -> list[str]:
    found = [
        f"{name}: {getattr(first, name)} → {getattr(second, name)}"
        for name in _HEADER
        if getattr(first, name) != getattr(second, name)
    ]
    found += [f"device: {difference}" for difference in first.fingerprint.differences(second.fingerprint)]
    kinds: tuple[Kind, ...] = ("blocks", "networks")
    for kind in kinds:
        ours, theirs = first.protocol.get(kind, {}), second.protocol.get(kind, {})
        found += [
            f"protocol of {kind}: {knob}: {ours.get(knob, 'not stated')} → {theirs.get(knob, 'not stated')}"
            for knob in sorted(ours.keys() | theirs.keys())
            if ours.get(knob) != theirs.get(knob)
        ]
    return found
