"""What the page of a latency table shows, as plain data."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hwnas.report.data import HeldOutNetwork, LatencyFigures
from hwnas.report.part import Count, Facts, Milliseconds, Part, Seconds, Spread


class HeatCell(Part):
    """A block at one place, with certain choices and at one resolution."""

    ms: Milliseconds
    std_ms: Spread | None = None
    """Of an interpolated time; ``None`` where the block was measured."""


class HeatRow(Part):
    """A place of the network: its blocks by choices, and of each by resolution; None where nothing is known."""

    label: str
    cells: tuple[tuple[HeatCell | None, ...], ...]


class HeatMap(Part):
    """Places at which there are the same choices."""

    choices: tuple[str, ...]
    """Such as kernel and expansion; none at the places that every architecture has."""
    columns: tuple[tuple[int, ...], ...] = Field(min_length=1)
    """A value of each of the choices."""
    resolutions: tuple[int, ...] = Field(min_length=1)
    shown: int
    """The resolution that is drawn where there is room for one."""
    rows: tuple[HeatRow, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.shown not in self.resolutions:
            raise ValueError("shown must be one of the resolutions")
        if any(len(column) != len(self.choices) for column in self.columns):
            raise ValueError("each column must hold a value of each of the choices")
        for row in self.rows:
            if len(row.cells) != len(self.columns) or any(len(c) != len(self.resolutions) for c in row.cells):
                raise ValueError("each row must hold a cell for each column and resolution")
        return self


class EntryScatter(Part):
    """How much measurements scatter; spreads are shares of an entry's time."""

    name: str
    entries: Count
    samples: Count
    builds: Count
    between_builds: float | None
    between_builds_p95: float | None
    within: float
    outliers: Count
    ungated: float
    """By what share the ungated median is slower."""


class RowNote(Part):
    """What was said of published rows when they were imported."""

    verdict: Literal["refused", "marked"]
    row_type: str
    rows: Count
    reason: str


class BlockLine(Part):
    """One of the space's blocks."""

    key: str
    ms: Milliseconds
    std_ms: Spread | None = None
    """Of an interpolated time; ``None`` where the block was measured."""
    p90_ms: Milliseconds | None = None
    builds: Count = 0
    between_builds: float | None = None
    samples: Count = 0
    outliers: Count = 0


class Judged(Part):
    """Networks that no fit has seen, the model's figures on them, and those of simpler predictors beside it."""

    networks: tuple[HeldOutNetwork, ...] = ()
    figures: tuple[LatencyFigures, ...] = ()
    """The model's first."""


class TableData(Part):
    """Everything that the page shows."""

    name: str
    target: str
    space: str
    kind: Literal["measured", "imported", "estimated", "emulated"]
    created: date
    seconds: Seconds
    statistic: str
    """Which figure stands for an entry's time, such as ``p50, capability (gated)``."""
    arrival: str
    resolutions: tuple[int, ...]
    blocks_missing: Count
    networks_missing: Count
    warnings: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    heat_maps: tuple[HeatMap, ...] = ()
    scatter: tuple[EntryScatter, ...] = ()
    held_out: Judged = Judged()
    proposed: Judged = Judged()
    """Likewise, of networks that a search proposed."""
    hygiene: tuple[RowNote, ...] = ()
    blocks: tuple[BlockLine, ...] = ()
    identity: Facts
    context: Facts
    protocol: Annotated[Facts, Field(default_factory=dict)]
